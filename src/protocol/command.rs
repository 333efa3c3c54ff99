//! A command that owns all it carries, for the paths where speed does not matter.

use super::frame::{self, Frame, PREFIX_SIZE, Serialize};
use super::header::{self, Ext};
use super::header_json::Parts;
use super::{HeaderError, Language, header_binary, header_json};
use bytes::{Bytes, BytesMut};

/// The version that 4.9.3 announces in every frame. Source: MQVersion (4.9.3).
pub const VERSION_4_9_3: i32 = 399;

/// Bit of `flag`: this command answers one.
pub const FLAG_REPLY: i32 = 1;

/// Bit of `flag`: nobody waits for an answer.
pub const FLAG_ONEWAY: i32 = 2;

/// A request or its answer.
///
/// Source: RemotingCommand (4.9.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Request code, or response code when `is_reply`.
    pub code: i32,
    pub language: Language,
    pub version: i32,
    pub opaque: i32,
    pub flag: i32,
    pub remark: Option<String>,
    /// In the order of the wire; names do not repeat.
    pub ext: Vec<(String, String)>,
    pub body: Bytes,
}

impl Default for Command {
    fn default() -> Self {
        Command {
            code: 0,
            language: Language::Other,
            version: VERSION_4_9_3,
            opaque: 0,
            flag: 0,
            remark: None,
            ext: Vec::new(),
            body: Bytes::new(),
        }
    }
}

impl Command {
    pub fn request(code: i32) -> Self {
        Command { code, ..Command::default() }
    }

    /// The answer to the request with this `opaque`. It says JAVA, as the server it stands for.
    pub fn reply(opaque: i32, code: i32) -> Self {
        let language = Language::Java;
        Command { code, opaque, language, flag: FLAG_REPLY, ..Command::default() }
    }

    /// Adds a field, or replaces the one of this name.
    pub fn with_ext(mut self, name: &str, value: impl ToString) -> Self {
        self.set_ext(name, value.to_string());
        self
    }

    /// Adds the fields of a typed header.
    pub fn with_fields(mut self, fields: Vec<(String, String)>) -> Self {
        fields.into_iter().for_each(|(name, value)| self.set_ext(&name, value));
        self
    }

    pub fn with_remark(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }

    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn oneway(mut self) -> Self {
        self.flag |= FLAG_ONEWAY;
        self
    }

    pub fn set_ext(&mut self, name: &str, value: String) {
        match self.ext.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.ext.push((name.to_owned(), value)),
        }
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.ext.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The fields, as typed headers read them.
    pub fn fields(&self) -> Ext<'_> {
        Ext::borrowed(&self.ext)
    }

    pub fn is_reply(&self) -> bool {
        self.flag & FLAG_REPLY != 0
    }

    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// Reads a frame. The body is shared with it, not copied.
    pub fn decode(frame: &Frame) -> Result<Self, HeaderError> {
        let header = header::scan(frame)?;
        Ok(Command::of(&header, frame.body.clone()))
    }

    /// An owned copy of a header that was read in place.
    pub fn of(header: &header::Header<'_>, body: Bytes) -> Self {
        let mut command = Command {
            code: header.code,
            language: header.language,
            version: header.version,
            opaque: header.opaque,
            flag: header.flag,
            remark: header.remark.as_deref().map(str::to_owned),
            ext: Vec::with_capacity(header.ext.count()),
            body,
        };
        for (name, value) in header.ext.iter() {
            command.set_ext(&name, value.into_owned());
        }
        command
    }

    /// Appends the whole frame, body included.
    pub fn encode(&self, serialize: Serialize, out: &mut BytesMut) {
        self.encode_head(serialize, self.body.len(), out);
        out.extend_from_slice(&self.body);
    }

    /// Appends the frame up to its body; `body_size` bytes are to follow.
    pub fn encode_head(&self, serialize: Serialize, body_size: usize, out: &mut BytesMut) {
        let fields: usize = self.ext.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        out.reserve(PREFIX_SIZE + 160 + fields + self.remark.as_ref().map_or(0, String::len));
        let at = frame::begin(out);
        let parts = Parts {
            code: self.code,
            language: self.language,
            version: self.version,
            opaque: self.opaque,
            flag: self.flag,
            remark: self.remark.as_deref(),
        };
        let ext = self.ext.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let ext = (!self.ext.is_empty()).then_some(ext);
        match serialize {
            Serialize::Json => header_json::write(out, &parts, ext),
            Serialize::Rocketmq => header_binary::write(out, &parts, ext),
        }
        frame::end(out, at, serialize, body_size);
    }
}
