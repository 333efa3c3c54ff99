//! A header read in place, whatever its encoding.

use super::Ext;
use crate::protocol::command::{FLAG_ONEWAY, FLAG_REPLY};
use crate::protocol::frame::{Frame, Serialize};
use crate::protocol::{HeaderError, Language, header_binary, header_json};
use std::borrow::Cow;

/// What every command carries, borrowed from its frame.
///
/// Source: RemotingCommand (4.9.3).
#[derive(Clone, Debug, Default)]
pub struct Header<'a> {
    /// Of the request, or of the response when `is_reply`.
    pub code: i32,
    pub language: Language,
    pub version: i32,
    pub opaque: i32,
    pub flag: i32,
    pub remark: Option<Cow<'a, str>>,
    pub ext: Ext<'a>,
}

impl Header<'_> {
    pub fn is_reply(&self) -> bool {
        self.flag & FLAG_REPLY != 0
    }
    /// Nobody waits for an answer.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }
}

/// Reads a frame's header. The usual shapes are read in place, without allocation.
pub fn scan(frame: &Frame) -> Result<Header<'_>, HeaderError> {
    match frame.serialize {
        Serialize::Json => header_json::read(&frame.header),
        Serialize::Rocketmq => header_binary::read(&frame.header),
    }
}
