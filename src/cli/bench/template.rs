//! A request encoded once, of which only the numbers change.

use super::args::HeaderKind;
use crate::protocol::Command;
use crate::protocol::Language;
use crate::protocol::frame::{PREFIX_SIZE, Serialize};
use crate::protocol::header;
use bytes::{Bytes, BytesMut};

/// Opaques have ten digits, so that they can be written over each other.
const OPAQUE_BASE: i32 = 1_000_000_000;

pub struct Template {
    bytes: Vec<u8>,
    opaque_at: usize,
    is_binary: bool,
}

/// Digits inside of a template.
#[derive(Clone, Copy)]
pub struct Hole {
    at: usize,
    size: usize,
}

impl Template {
    /// The command should say it is from Java: that is whom servers are tuned for.
    pub fn new(command: Command, kind: HeaderKind) -> Self {
        let command = Command { opaque: OPAQUE_BASE, language: Language::Java, ..command };
        let serialize = match kind {
            HeaderKind::Json => Serialize::Json,
            HeaderKind::Binary => Serialize::Rocketmq,
        };
        let mut out = BytesMut::new();
        command.encode(serialize, &mut out);
        let bytes = out.to_vec();
        let is_binary = serialize == Serialize::Rocketmq;
        let opaque_at = if is_binary {
            PREFIX_SIZE + 5
        } else {
            find(&bytes, b"\"opaque\":").expect("every header has one") + b"\"opaque\":".len()
        };
        Template { bytes, opaque_at, is_binary }
    }

    /// Where `text` stands, to be written over.
    pub fn hole(&self, text: &str) -> Hole {
        let at = find(&self.bytes, text.as_bytes()).expect("the caller put it there");
        Hole { at, size: text.len() }
    }

    /// Where the value of a field stands.
    pub fn hole_of(&self, name: &str, value: &str) -> Hole {
        let before = if self.is_binary {
            let mut before = (name.len() as u16).to_be_bytes().to_vec();
            before.extend_from_slice(name.as_bytes());
            before.extend_from_slice(&(value.len() as u32).to_be_bytes());
            before
        } else {
            format!("\"{name}\":\"").into_bytes()
        };
        let wanted = [&before[..], value.as_bytes()].concat();
        let at = find(&self.bytes, &wanted).expect("the caller put it there") + before.len();
        Hole { at, size: value.len() }
    }

    /// Appends the request with this id and these numbers, in decimal with leading zeros.
    pub fn write(&self, id: u32, holes: &[(Hole, u64)], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let frame = &mut out[start..];
        let opaque = OPAQUE_BASE + id as i32;
        if self.is_binary {
            frame[self.opaque_at..self.opaque_at + 4].copy_from_slice(&opaque.to_be_bytes());
        } else {
            digits(&mut frame[self.opaque_at..self.opaque_at + 10], opaque as u64);
        }
        for (hole, number) in holes {
            digits(&mut frame[hole.at..hole.at + hole.size], *number);
        }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// What the generator wants to know of a reply.
pub struct Reply {
    pub id: u32,
    pub code: i32,
}

/// Reads a reply's id and code: by position where servers put them, by the book otherwise.
pub fn reply(frame: &[u8]) -> Result<Reply, String> {
    quick(frame).map_or_else(|| command(frame).map(|command| of(&command)), Ok)
}

fn of(command: &Command) -> Reply {
    Reply { id: (command.opaque - OPAQUE_BASE) as u32, code: command.code }
}

fn quick(frame: &[u8]) -> Option<Reply> {
    let size = u32::from_be_bytes([0, frame[5], frame[6], frame[7]]) as usize;
    let header = frame.get(PREFIX_SIZE..PREFIX_SIZE + size)?;
    if frame[4] == 1 {
        let code = i16::from_be_bytes(*header.first_chunk::<2>()?);
        let opaque = i32::from_be_bytes(header.get(5..9)?.try_into().ok()?);
        return Some(Reply { id: (opaque - OPAQUE_BASE) as u32, code: i32::from(code) });
    }
    let code = number(header.strip_prefix(b"{\"code\":")?)?;
    let name = b"\"opaque\":";
    let at = header.windows(name.len()).rposition(|window| window == name)?;
    let opaque = number(&header[at + name.len()..])?;
    Some(Reply { id: (opaque - OPAQUE_BASE) as u32, code })
}

fn number(bytes: &[u8]) -> Option<i32> {
    let size = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&bytes[..size]).ok()?.parse().ok()
}

/// The whole of a reply, when more of it is wanted.
pub fn command(frame: &[u8]) -> Result<Command, String> {
    let mut bytes = BytesMut::from(frame);
    match crate::protocol::frame::cut(&mut bytes, frame.len()) {
        Ok(Some(frame)) => {
            let header = header::scan(&frame).map_err(|e| e.to_string())?;
            Ok(Command::of(&header, Bytes::clone(&frame.body)))
        }
        Ok(None) => Err("half a frame".into()),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_over_each_other_and_read_back() {
        for kind in [HeaderKind::Json, HeaderKind::Binary] {
            let request = Command::request(0).with_ext("e", "#").with_ext("id", "00000777");
            let template = Template::new(request, kind);
            let holes = [(template.hole_of("e", "#"), 3), (template.hole("00000777"), 42)];
            for id in [0, 1, 99_999] {
                let mut out = vec![7];
                template.write(id, &holes, &mut out);
                let command = command(&out[1..]).unwrap();
                assert_eq!((command.get("e"), command.get("id")), (Some("3"), Some("00000042")));
                assert_eq!(of(&command).id, id);
                let quick = quick(&out[1..]).unwrap();
                assert_eq!((quick.id, quick.code), (id, 0));
            }
        }
    }
}
