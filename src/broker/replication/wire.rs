//! What two Hotfires ask each other on the main port, which 4.9 does not know: requests 60001 to
//! 60004. Layout: docs/formats/ha_stream.md.

use crate::format::epochs::Epochs;
use crate::ha::Position;
use crate::protocol::Command;
use crate::protocol::code::request_code;
use crate::protocol::header::Ext;
use bytes::Bytes;

/// A position, and who says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub broker_name: String,
    /// Where the one who asks can be asked.
    pub addr: String,
    /// A slave that will dial the HA port.
    pub follows: bool,
    pub position: Position,
}

/// What a broker answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub is_slave: bool,
    /// Its end is what is stored as its flush mode says.
    pub position: Position,
    /// Up to where its log is written.
    pub written: u64,
    /// The CRC-32 of its record where the newest of the one who asks lies.
    pub sum: Option<u32>,
    /// For one that follows.
    pub token: Option<u64>,
    /// For one that follows: who replicates with this one too, or did.
    pub peers: Vec<String>,
}

/// The header fields of a position; its epochs are the body.
fn fields(position: &Position) -> Vec<(String, String)> {
    let mut fields = vec![
        ("minOffset".to_owned(), position.min.to_string()),
        ("endOffset".to_owned(), position.end.to_string()),
    ];
    if let Some((at, sum)) = position.last {
        fields.push(("lastOffset".to_owned(), at.to_string()));
        fields.push(("lastCrc".to_owned(), sum.to_string()));
    }
    fields
}

fn number<T: std::str::FromStr>(ext: &Ext<'_>, name: &str) -> Result<T, String> {
    let text = ext.get(name).ok_or_else(|| format!("{name} is missing"))?;
    text.parse().map_err(|_| format!("{name} is {text:?}, a number was expected"))
}

fn if_there<T: std::str::FromStr>(ext: &Ext<'_>, name: &str) -> Result<Option<T>, String> {
    ext.get(name).map(|_| number(ext, name)).transpose()
}

fn position(ext: &Ext<'_>, body: &[u8]) -> Result<Position, String> {
    let epochs = std::str::from_utf8(body).ok().and_then(Epochs::parse);
    let at = if_there(ext, "lastOffset")?;
    let last = at.map(|at| number(ext, "lastCrc").map(|sum| (at, sum))).transpose()?;
    Ok(Position {
        epochs: epochs.ok_or("the epochs cannot be read")?,
        min: number(ext, "minOffset")?,
        end: number(ext, "endOffset")?,
        last,
    })
}

impl Question {
    pub fn to_command(&self) -> Command {
        Command::request(request_code::HOTFIRE_POSITION)
            .with_fields(fields(&self.position))
            .with_ext("brokerName", &self.broker_name)
            .with_ext("brokerAddr", &self.addr)
            .with_ext("follows", self.follows)
            .with_body(self.position.epochs.to_text().into_bytes())
    }

    /// Errors: the field that is wrong.
    pub fn decode(ext: &Ext<'_>, body: &[u8]) -> Result<Question, String> {
        Ok(Question {
            broker_name: ext.get("brokerName").ok_or("brokerName is missing")?.to_string(),
            addr: ext.get("brokerAddr").ok_or("brokerAddr is missing")?.to_string(),
            follows: ext.get("follows").is_some_and(|flag| flag == "true"),
            position: position(ext, body)?,
        })
    }
}

impl Answer {
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("isSlave", self.is_slave.to_string()),
            ("minOffset", self.position.min.to_string()),
            ("endOffset", self.position.end.to_string()),
            ("writtenOffset", self.written.to_string()),
        ];
        all.extend(self.sum.map(|sum| ("recordCrc", sum.to_string())));
        all.extend(self.token.map(|token| ("token", token.to_string())));
        all.extend(peers_field(&self.peers));
        all
    }

    pub fn body(&self) -> Bytes {
        Bytes::from(self.position.epochs.to_text())
    }

    /// Errors: the field that is wrong.
    pub fn decode(answer: &Command) -> Result<Answer, String> {
        let ext = answer.fields();
        Ok(Answer {
            is_slave: ext.get("isSlave").is_some_and(|flag| flag == "true"),
            position: position(&ext, &answer.body)?,
            written: number(&ext, "writtenOffset")?,
            sum: if_there(&ext, "recordCrc")?,
            token: if_there(&ext, "token")?,
            peers: peers(&ext),
        })
    }
}

/// The field that names others of this name; nothing without any.
pub fn peers_field(peers: &[String]) -> Option<(&'static str, String)> {
    (!peers.is_empty()).then(|| ("peers", peers.join(",")))
}

/// Others of this name, as the one who answers knows them.
pub fn peers(ext: &Ext<'_>) -> Vec<String> {
    let text = ext.get("peers").unwrap_or_default();
    text.split(',').filter(|addr| !addr.is_empty()).map(str::to_owned).collect()
}

/// Asks to be answered when the tables beside the log are others than in this version.
pub fn wait_change(version: &str) -> Command {
    Command::request(request_code::HOTFIRE_WAIT_CHANGE).with_ext("version", version)
}

/// Asks for log bytes from `at` on.
pub fn read_log(at: u64) -> Command {
    Command::request(request_code::HOTFIRE_READ_LOG).with_ext("offset", at)
}

/// Errors: the field that is wrong.
pub fn read_log_at(ext: &Ext<'_>) -> Result<u64, String> {
    number(ext, "offset")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_round_trip() {
        let epochs = Epochs::parse("1:0:a,2:500:b").expect("a list");
        for last in [None, Some((400, 7))] {
            let position = Position { epochs: epochs.clone(), min: 100, end: 900, last };
            let question = Question {
                broker_name: "broker-a".into(),
                addr: "10.0.0.1:10911".into(),
                follows: true,
                position: position.clone(),
            };
            let said = question.to_command();
            assert_eq!(Question::decode(&said.fields(), &said.body), Ok(question));
            let position = Position { last: None, ..position };
            let peers = vec!["10.0.0.2:10911".to_owned(), "b:1".to_owned()];
            let answer =
                Answer { position, written: 950, token: Some(5), peers, ..Answer::default() };
            let mut said = Command::reply(1, 0).with_body(answer.body());
            answer.fields().into_iter().for_each(|(name, value)| said.set_ext(name, value));
            assert_eq!(Answer::decode(&said), Ok(answer));
        }
        let said = read_log(77);
        assert_eq!(read_log_at(&said.fields()), Ok(77));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let said = Command::request(1).with_ext("brokerName", "a").with_ext("brokerAddr", "b");
        let error = Question::decode(&said.fields(), b"").unwrap_err();
        assert_eq!(error, "minOffset is missing");
        let said = said.with_ext("minOffset", "x");
        let error = Question::decode(&said.fields(), b"").unwrap_err();
        assert_eq!(error, "minOffset is \"x\", a number was expected");
        let error = Question::decode(&said.fields(), b"1:2").unwrap_err();
        assert_eq!(error, "the epochs cannot be read");
    }
}
