//! The two ids of a message: where it lies (made by the broker) and which one it is (made by the
//! client). Both are upper-case hex; both may have 32 characters.

use super::bytes_at;
use crate::model::{PhysicalOffset, WallMillis};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("a message id has 32 or 56 characters, this one has {0}")]
    Length(usize),
    #[error("a message id is hexadecimal, found {0:?}")]
    NotHex(char),
    #[error("the {field} in the message id is {value}, which none has")]
    Range { field: &'static str, value: i64 },
}

/// The id of the record at `physical` on the broker at `host`.
/// Source: MessageDecoder#createMessageId (4.9.3).
pub fn offset_id(host: SocketAddr, physical: PhysicalOffset) -> String {
    let mut bytes = [0; 28];
    let len = write_offset_id(host, physical, &mut bytes);
    hex(&bytes[..len])
}

/// Like `offset_id`, into `out`, which is not cleared: no allocation when it has room.
pub fn push_offset_id(host: SocketAddr, physical: PhysicalOffset, out: &mut String) {
    let mut bytes = [0; 28];
    let len = write_offset_id(host, physical, &mut bytes);
    push_hex(&bytes[..len], out);
}

fn write_offset_id(host: SocketAddr, physical: PhysicalOffset, out: &mut [u8; 28]) -> usize {
    let at = match host.ip() {
        IpAddr::V4(ip) => {
            out[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            out[..16].copy_from_slice(&ip.octets());
            16
        }
    };
    out[at..at + 4].copy_from_slice(&u32::from(host.port()).to_be_bytes());
    out[at + 4..at + 12].copy_from_slice(&physical.0.to_be_bytes());
    at + 12
}

/// Reads an offset id back. Any 32 hex characters can be read as one.
/// Source: MessageDecoder#decodeMessageId (4.9.3).
pub fn parse_offset_id(text: &str) -> Result<(SocketAddr, PhysicalOffset), IdError> {
    let (bytes, len) = unhex(text)?;
    let bytes = &bytes[..len];
    let (ip, at) = read_ip(bytes);
    let port = bytes_at::u32(bytes, at).unwrap_or_default();
    let offset = bytes_at::i64(bytes, at + 4).unwrap_or_default();
    let port = u16::try_from(port)
        .map_err(|_| IdError::Range { field: "port", value: i64::from(port) })?;
    let physical = u64::try_from(offset)
        .map_err(|_| IdError::Range { field: "physical offset", value: offset })?;
    Ok((SocketAddr::new(ip, port), PhysicalOffset(physical)))
}

/// What a client's unique id is made of.
/// Source: MessageClientIDSetter (4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniqueId {
    pub ip: IpAddr,
    /// The low 16 bits of the process id.
    pub process: u16,
    /// Java: the hash of the class loader; any number that stays the same for a process.
    pub loader: u32,
    /// Units: milliseconds since the first of the month, local time.
    pub since_month_ms: u32,
    pub counter: u16,
}

impl UniqueId {
    pub fn encode(&self) -> String {
        let mut bytes = [0; 28];
        let at = match self.ip {
            IpAddr::V4(ip) => {
                bytes[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                bytes[..16].copy_from_slice(&ip.octets());
                16
            }
        };
        bytes[at..at + 2].copy_from_slice(&self.process.to_be_bytes());
        bytes[at + 2..at + 6].copy_from_slice(&self.loader.to_be_bytes());
        bytes[at + 6..at + 10].copy_from_slice(&self.since_month_ms.to_be_bytes());
        bytes[at + 10..at + 12].copy_from_slice(&self.counter.to_be_bytes());
        hex(&bytes[..at + 12])
    }

    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (bytes, len) = unhex(text)?;
        let bytes = &bytes[..len];
        let (ip, at) = read_ip(bytes);
        Ok(UniqueId {
            ip,
            process: bytes_at::array(bytes, at).map_or(0, u16::from_be_bytes),
            loader: bytes_at::u32(bytes, at + 2).unwrap_or_default(),
            since_month_ms: bytes_at::u32(bytes, at + 6).unwrap_or_default(),
            counter: bytes_at::array(bytes, at + 10).map_or(0, u16::from_be_bytes),
        })
    }
}

/// Milliseconds since the first of the month of `now`, in a zone that is `offset_ms` ahead of UTC:
/// the time field of a unique id.
pub fn since_month_ms(now: WallMillis, offset_ms: i64) -> u32 {
    const DAY_MS: i64 = 86_400_000;
    let local = now.0.saturating_add(offset_ms);
    let (days, in_day) = (local.div_euclid(DAY_MS), local.rem_euclid(DAY_MS));
    let day_of_month = i64::from(day_of_month(days));
    u32::try_from((day_of_month - 1) * DAY_MS + in_day).unwrap_or_default()
}

/// The day of the month, from 1, of a day counted from 1970-01-01 (proleptic Gregorian calendar,
/// after Hinnant's civil_from_days).
fn day_of_month(days: i64) -> u8 {
    let shifted = days + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    (day_of_year - (153 * month + 2) / 5 + 1) as u8
}

fn read_ip(bytes: &[u8]) -> (IpAddr, usize) {
    match (bytes.len(), bytes.first_chunk::<16>(), bytes.first_chunk::<4>()) {
        (28, Some(ip), _) => (IpAddr::V6(Ipv6Addr::from(*ip)), 16),
        (_, _, Some(ip)) => (IpAddr::V4(Ipv4Addr::from(*ip)), 4),
        _ => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    push_hex(bytes, &mut out);
    out
}

fn push_hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn unhex(text: &str) -> Result<([u8; 28], usize), IdError> {
    if text.len() != 32 && text.len() != 56 {
        return Err(IdError::Length(text.len()));
    }
    let mut out = [0; 28];
    for (at, letter) in text.chars().enumerate() {
        let digit = letter.to_digit(16).ok_or(IdError::NotHex(letter))?;
        out[at / 2] |= (digit as u8) << (4 * (1 - at % 2));
    }
    Ok((out, text.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offset_ids_are_java_s() {
        let host = "127.0.0.1:20911".parse().unwrap();
        let id = offset_id(host, PhysicalOffset(186));
        assert_eq!(id, "7F000001000051AF00000000000000BA");
        assert_eq!(parse_offset_id(&id), Ok((host, PhysicalOffset(186))));
    }

    #[test]
    fn the_month_starts_at_its_first_day() {
        // 2024-02-29T12:00:00Z and 2024-03-01T00:00:00Z.
        assert_eq!(since_month_ms(WallMillis(1_709_208_000_000), 0), 28 * 86_400_000 + 43_200_000);
        assert_eq!(since_month_ms(WallMillis(1_709_251_200_000), 0), 0);
        assert_eq!(since_month_ms(WallMillis(0), 0), 0);
        assert_eq!(since_month_ms(WallMillis(-1), 0), 31 * 86_400_000 - 1);
    }

    proptest! {
        #[test]
        fn offset_ids_round_trip(ip in any::<IpAddr>(), port: u16, at in 0..=i64::MAX as u64) {
            let host = SocketAddr::new(ip, port);
            let id = offset_id(host, PhysicalOffset(at));
            prop_assert_eq!(parse_offset_id(&id), Ok((host, PhysicalOffset(at))));
        }

        #[test]
        fn unique_ids_round_trip(
            ip in any::<IpAddr>(), process: u16, loader: u32, since_month_ms: u32, counter: u16,
        ) {
            let id = UniqueId { ip, process, loader, since_month_ms, counter };
            prop_assert_eq!(UniqueId::parse(&id.encode()), Ok(id));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text in ".{0,60}") {
            let _ = (parse_offset_id(&text), UniqueId::parse(&text));
        }
    }
}
