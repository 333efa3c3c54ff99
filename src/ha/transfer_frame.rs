//! The frames of the HA stream.
//!
//! Source: HAConnection.WriteSocketService, HAService.HAClient (4.9.3).
//! Layout: docs/formats/ha_stream.md.

/// What a slave sends: everything below this offset is there. Units: bytes of one report.
pub const REPORT_SIZE: usize = 8;
/// What a master sends before the bytes of its log. Units: bytes.
pub const HEADER_SIZE: usize = 12;

/// Comes before `size` bytes of the master's log, which lie at `at`. Without bytes it says only
/// that the master lives, and that the log goes on there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub at: u64,
    pub size: u32,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        out[..8].copy_from_slice(&self.at.to_be_bytes());
        out[8..].copy_from_slice(&self.size.to_be_bytes());
        out
    }

    /// `None` when there are not enough bytes yet.
    /// Errors: a negative offset or size, which names it.
    pub fn decode(bytes: &[u8]) -> Option<Result<Header, String>> {
        let at = i64::from_be_bytes(*bytes.first_chunk()?);
        let size = i32::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
        let header = match (u64::try_from(at), u32::try_from(size)) {
            (Ok(at), Ok(size)) => Ok(Header { at, size }),
            _ => Err(format!("a frame of {size} bytes at offset {at}")),
        };
        Some(header)
    }
}

/// A slave that was greeted says its token before its first report: as a number that no report is.
pub fn encode_token(token: u64) -> [u8; REPORT_SIZE] {
    (token | TOKEN).to_be_bytes()
}

/// The token, when the first word of a connection is one.
pub fn token(bytes: &[u8]) -> Option<u64> {
    let word = u64::from_be_bytes(*bytes.first_chunk()?);
    (word & TOKEN != 0).then_some(word & !TOKEN)
}

/// The highest bit: a report is never negative.
pub const TOKEN: u64 = 1 << 63;

/// The newest of the reports that are whole in `bytes`, and how many bytes they are.
/// Source: HAConnection.ReadSocketService#processReadEvent: older ones are passed over.
/// Errors: it is negative.
pub fn last_report(bytes: &[u8]) -> Option<(Result<u64, String>, usize)> {
    let (reports, _) = bytes.as_chunks::<REPORT_SIZE>();
    let said = i64::from_be_bytes(*reports.last()?);
    let said = u64::try_from(said).map_err(|_| format!("a report of offset {said}"));
    Some((said, reports.len() * REPORT_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_4_9() {
        let header = Header { at: 0x0102, size: 32_768 };
        let bytes = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0x80, 0];
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(&bytes), Some(Ok(header)));
        assert_eq!(Header::decode(&bytes[..11]), None);
        assert!(Header::decode(&[0xFF; 12]).is_some_and(|header| header.is_err()));
    }

    #[test]
    fn a_token_is_no_report() {
        assert_eq!(token(&encode_token(77)), Some(77));
        assert_eq!(token(&77u64.to_be_bytes()), None);
        assert_eq!(token(&[0xFF; 7]), None);
    }

    #[test]
    fn the_newest_whole_report_counts() {
        let mut bytes = 5u64.to_be_bytes().to_vec();
        assert_eq!(last_report(&bytes), Some((Ok(5), 8)));
        bytes.extend_from_slice(&9u64.to_be_bytes());
        bytes.push(0);
        assert_eq!(last_report(&bytes), Some((Ok(9), 16)));
        assert_eq!(last_report(&bytes[..7]), None);
        assert!(last_report(&[0xFF; 8]).is_some_and(|(said, _)| said.is_err()));
    }
}
