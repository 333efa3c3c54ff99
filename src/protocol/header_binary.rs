//! The binary header, serialize type 1. Layout: docs/formats/frame.md.

use super::header::{Ext, Header, Span, SpanList};
use super::header_json::Parts;
use super::{HeaderError, Language};
use bytes::{BufMut, BytesMut};

const VALUE_LENGTH_SIZE: usize = 4;

/// Reads a header in place.
///
/// Source: RocketMQSerializable#rocketMQProtocolDecode (4.9.3).
/// Differs: bytes after the fields are refused; Java cannot see them, because it has read past.
pub(super) fn read(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let code = i32::from(i16::from_be_bytes(cursor.array("code")?));
    let [language] = cursor.array("language")?;
    let version = i32::from(i16::from_be_bytes(cursor.array("version")?));
    let opaque = i32::from_be_bytes(cursor.array("opaque")?);
    let flag = i32::from_be_bytes(cursor.array("flag")?);
    let remark = cursor.sized("remark")?;
    let remark = (!remark.is_empty()).then(|| String::from_utf8_lossy(remark));
    let fields = cursor.sized("extFields")?;
    if cursor.at != bytes.len() {
        let rest = bytes.len() - cursor.at;
        return Err(HeaderError::unreadable(format!("{rest} bytes follow its fields")));
    }
    let language = Language::from_number(i64::from(language));
    let ext = if fields.is_empty() { Ext::default() } else { read_fields(fields)? };
    Ok(Header { code, language, version, opaque, flag, remark, ext })
}

fn read_fields(bytes: &[u8]) -> Result<Ext<'_>, HeaderError> {
    let mut spans = SpanList::default();
    let mut cursor = Cursor { bytes, at: 0 };
    while cursor.at < bytes.len() {
        let (key, value) = cursor.field()?;
        let value_at = cursor.at - value.len();
        let key_at = value_at - VALUE_LENGTH_SIZE - key.len();
        let key = (key_at, key_at + key.len());
        match Span::new(key, (value_at, cursor.at), false) {
            Some(span) if spans.push(span) => {}
            _ => return read_many_fields(bytes),
        }
    }
    Ok(Ext::in_binary(bytes, spans))
}

fn read_many_fields(bytes: &[u8]) -> Result<Ext<'static>, HeaderError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut fields = Vec::new();
    while cursor.at < bytes.len() {
        let (key, value) = cursor.field()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.push((text(key), text(value)));
    }
    Ok(Ext::owned(fields))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, name: &str, size: usize) -> Result<&'a [u8], HeaderError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..size) else {
            let has = rest.len();
            return Err(HeaderError::unreadable(format!("{name} needs {size} bytes of {has}")));
        };
        self.at += size;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, name: &str) -> Result<[u8; N], HeaderError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(name, N)?);
        Ok(array)
    }

    /// A section with a 4-byte length.
    fn sized(&mut self, name: &str) -> Result<&'a [u8], HeaderError> {
        let size = i32::from_be_bytes(self.array(name)?);
        match usize::try_from(size) {
            Ok(size) => self.take(name, size),
            Err(_) => Err(HeaderError::unreadable(format!("{name} has length {size}"))),
        }
    }

    fn field(&mut self) -> Result<(&'a [u8], &'a [u8]), HeaderError> {
        let size = i16::from_be_bytes(self.array("a field's name")?);
        let key = match usize::try_from(size) {
            Ok(size) => self.take("a field's name", size)?,
            Err(_) => {
                return Err(HeaderError::unreadable(format!("a field's name has length {size}")));
            }
        };
        Ok((key, self.sized("a field's value")?))
    }
}

/// Writes a header. A code that does not fit in two bytes goes out as 1 (SYSTEM_ERROR), a name
/// beyond 32 KiB is left out: the format has no place for them.
///
/// Source: RocketMQSerializable#rocketMQProtocolEncode (4.9.3).
pub(super) fn write<'e>(
    out: &mut BytesMut,
    parts: &Parts<'_>,
    ext: Option<impl Iterator<Item = (&'e str, &'e str)>>,
) {
    out.put_i16(i16::try_from(parts.code).unwrap_or(1));
    out.put_u8(parts.language.number());
    out.put_i16(parts.version.clamp(i16::MIN.into(), i16::MAX.into()) as i16);
    out.put_i32(parts.opaque);
    out.put_i32(parts.flag);
    let remark = parts.remark.unwrap_or_default();
    out.put_i32(remark.len() as i32);
    out.put_slice(remark.as_bytes());
    let at = out.len();
    out.put_i32(0);
    for (key, value) in ext.into_iter().flatten() {
        let Ok(key_size) = i16::try_from(key.len()) else { continue };
        out.put_i16(key_size);
        out.put_slice(key.as_bytes());
        out.put_i32(value.len() as i32);
        out.put_slice(value.as_bytes());
    }
    let size = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use crate::protocol::frame::{FRAME_SIZE_MAX, Serialize, cut};
    use crate::protocol::{Command, header};
    use bytes::BytesMut;

    fn sample() -> BytesMut {
        let command = Command::request(30).with_ext("queueId", 3).with_ext("topic", "T");
        let command = Command { opaque: 7, remark: Some("hi".into()), ..command };
        let mut out = BytesMut::new();
        command.encode(Serialize::Rocketmq, &mut out);
        out
    }

    #[test]
    fn every_truncation_of_a_header_is_an_error() {
        let whole = cut(&mut sample(), FRAME_SIZE_MAX).unwrap().unwrap();
        for size in 1..whole.header.len() {
            let mut frame = whole.clone();
            frame.header.truncate(size);
            assert!(header::scan(&frame).is_err(), "{size} bytes");
        }
    }

    #[test]
    fn a_version_beyond_16_bits_becomes_the_nearest_one() {
        for (version, written) in [(399, 399), (66_666, 32_767), (-66_666, -32_768)] {
            let mut out = BytesMut::new();
            Command { version, ..Command::request(30) }.encode(Serialize::Rocketmq, &mut out);
            let frame = cut(&mut out, FRAME_SIZE_MAX).unwrap().unwrap();
            assert_eq!(Command::decode(&frame).unwrap().version, written);
        }
    }

    #[test]
    fn flipped_bits_never_panic() {
        let whole = sample();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(Some(frame)) = cut(&mut bytes, FRAME_SIZE_MAX) {
                    let _ = header::scan(&frame).map(|header| header.ext.to_vec());
                }
            }
        }
    }

    #[test]
    fn more_fields_than_are_kept_in_place_are_copied() {
        let mut command = Command::request(10);
        for at in 0..100 {
            command = command.with_ext(&format!("k{at}"), at);
        }
        let mut out = BytesMut::new();
        command.encode(Serialize::Rocketmq, &mut out);
        let frame = cut(&mut out, FRAME_SIZE_MAX).unwrap().unwrap();
        assert_eq!(Command::decode(&frame).unwrap(), command);
    }
}
