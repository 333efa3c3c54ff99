//! What a broker tells a name server: the body of REGISTER_BROKER (103), plain and compressed.
//! Layout of the compressed form: docs/formats/register_broker.md.

use super::json::decode_list;
use super::topic::{TopicConfig, TopicConfigs};
use super::{BodyError, DataVersion, Dialect, decode, encode};
use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// Of 50,000 topics with names of full length there are 10 MB. Units: bytes.
const INFLATED_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Source: RegisterBrokerBody (4.9.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterBrokerBody {
    pub filter_server_list: Vec<String>,
    #[serde(rename = "topicConfigSerializeWrapper")]
    pub topics: TopicConfigs,
}

impl RegisterBrokerBody {
    /// Source: RegisterBrokerBody#encode (4.9.3).
    pub fn encode(&self, is_compressed: bool) -> Bytes {
        if !is_compressed {
            return encode(self, Dialect::Fastjson);
        }
        let mut plain = BytesMut::new();
        put_sized(&mut plain, &encode(&self.topics.data_version, Dialect::Fastjson));
        plain.put_i32(self.topics.topic_config_table.len() as i32);
        for topic in self.topics.topic_config_table.values() {
            put_sized(&mut plain, row(topic).as_bytes());
        }
        put_sized(&mut plain, &encode(&self.filter_server_list, Dialect::Fastjson));
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(&plain).expect("memory takes every write");
        zlib.finish().expect("memory takes every write").into()
    }

    /// An empty body is an empty table of version 0.
    ///
    /// Source: RegisterBrokerBody#decode (4.9.3).
    pub fn decode(bytes: &[u8], is_compressed: bool) -> Result<Self, BodyError> {
        if bytes.is_empty() {
            return Ok(RegisterBrokerBody::default());
        }
        if !is_compressed {
            return decode(bytes);
        }
        let plain = inflate(bytes, INFLATED_SIZE_MAX)?;
        let mut cursor = Cursor(&plain);
        let data_version: DataVersion = decode(cursor.sized()?)?;
        let count = cursor.i32()?;
        let mut topics = TopicConfigs { data_version, ..TopicConfigs::default() };
        for _ in 0..count {
            let topic = parse_row(&String::from_utf8_lossy(cursor.sized()?))?;
            topics.topic_config_table.insert(topic.topic_name.clone(), topic);
        }
        let filter_server_list = decode_list(cursor.sized()?)?;
        Ok(RegisterBrokerBody { filter_server_list, topics })
    }
}

/// The checksum in the header of REGISTER_BROKER, over the body as sent. 0 means not checked.
///
/// Source: UtilAll#crc32 (4.9.3): the top bit is cleared.
pub fn body_crc32(bytes: &[u8]) -> i32 {
    (crc32fast::hash(bytes) & 0x7fff_ffff) as i32
}

fn put_sized(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

/// Source: TopicConfig#encode (4.9.3): no system flag, no order.
fn row(topic: &TopicConfig) -> String {
    let TopicConfig { topic_name, read_queue_nums, write_queue_nums, perm, .. } = topic;
    let filter = &topic.topic_filter_type;
    format!("{topic_name} {read_queue_nums} {write_queue_nums} {perm} {filter}")
}

/// Source: TopicConfig#decode (4.9.3).
/// Differs: a row of another shape is an error, where Java makes a topic without a name.
fn parse_row(row: &str) -> Result<TopicConfig, BodyError> {
    let parts: Vec<&str> = row.split(' ').collect();
    let numbers: Vec<i32> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    match (&parts[..], &numbers[..]) {
        ([name, _, _, _, filter], [.., read, write, perm]) => Ok(TopicConfig {
            topic_name: (*name).to_owned(),
            read_queue_nums: *read,
            write_queue_nums: *write,
            perm: *perm,
            topic_filter_type: (*filter).to_owned(),
            ..TopicConfig::default()
        }),
        _ => {
            let row: String = row.chars().take(64).collect();
            let text = format!("topic row {row:?}, expected name, three numbers, filter type");
            Err(BodyError::Compressed(text))
        }
    }
}

fn inflate(bytes: &[u8], size_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut plain = Vec::new();
    let mut zlib = ZlibDecoder::new(bytes).take(size_max as u64 + 1);
    zlib.read_to_end(&mut plain).map_err(|e| BodyError::Compressed(e.to_string()))?;
    if plain.len() > size_max {
        return Err(BodyError::TooLong { size: plain.len(), size_max });
    }
    Ok(plain)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn i32(&mut self) -> Result<i32, BodyError> {
        let Some((number, rest)) = self.0.split_first_chunk::<4>() else {
            return Err(BodyError::Compressed("it ends inside of a number".into()));
        };
        self.0 = rest;
        Ok(i32::from_be_bytes(*number))
    }

    fn sized(&mut self) -> Result<&'a [u8], BodyError> {
        let size = self.i32()?;
        let part = usize::try_from(size).ok().and_then(|size| self.0.split_at_checked(size));
        let Some((part, rest)) = part else {
            let has = self.0.len();
            return Err(BodyError::Compressed(format!("a part of {size} bytes, there are {has}")));
        };
        self.0 = rest;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RegisterBrokerBody {
        let topic = |name: &str| TopicConfig { topic_name: name.into(), ..TopicConfig::default() };
        RegisterBrokerBody {
            filter_server_list: vec!["10.0.0.1:1".into()],
            topics: TopicConfigs {
                data_version: DataVersion { counter: 5, timestamp: 1_700_000_000_000 },
                topic_config_table: ["TX1", "TX2"]
                    .into_iter()
                    .map(|name| (name.to_owned(), topic(name)))
                    .collect(),
            },
        }
    }

    #[test]
    fn both_forms_round_trip() {
        for is_compressed in [false, true] {
            let bytes = sample().encode(is_compressed);
            assert_eq!(RegisterBrokerBody::decode(&bytes, is_compressed).unwrap(), sample());
        }
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_an_error_or_another_value() {
        let whole = sample().encode(true);
        for size in 1..whole.len() {
            assert!(RegisterBrokerBody::decode(&whole[..size], true).is_err(), "{size} bytes");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << bit;
                let _ = RegisterBrokerBody::decode(&bytes, true);
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&vec![0; 1 << 20]).unwrap();
        let bytes = zlib.finish().unwrap();
        let size_max = 1 << 16;
        let error = inflate(&bytes, size_max).unwrap_err();
        assert!(matches!(error, BodyError::TooLong { size, .. } if size == size_max + 1));
        assert_eq!(inflate(&bytes, 1 << 20).unwrap().len(), 1 << 20);
    }

    #[test]
    fn rows_of_another_shape_are_named() {
        for row in ["T 4 4 6", "T 4 x 6 SINGLE_TAG", "T 4 4 6 SINGLE_TAG more", ""] {
            let text = parse_row(row).unwrap_err().to_string();
            assert!(text.contains(&format!("{row:?}")), "{text}");
        }
        assert_eq!(parse_row("1 2 3 6 SINGLE_TAG").unwrap().topic_name, "1");
    }
}
