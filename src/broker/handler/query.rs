//! Queries by key and views by offset: requests 12 and 33.
//!
//! Source: QueryMessageProcessor (4.9.3).

use super::super::driver::Shared;
use super::super::reply::{Answer, Refusal};
use super::{Done, Request, later};
use crate::model::{PhysicalOffset, WallMillis};
use crate::protocol::code::response_code as code;
use crate::protocol::header::query::{QueryMessageHeader, ViewMessageHeader};
use crate::store::Query;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// The extra field that a client sends with a unique key. Source: MixAll.UNIQUE_MSG_QUERY_FLAG.
const UNIQUE_KEY_QUERY: &str = "_UNIQUE_KEY_QUERY";

/// The newest messages with the key, oldest first in the body.
/// Differs: only messages that carry the key are returned, see `store::task::query`.
pub(super) fn by_key(shared: &Arc<Shared>, request: &Request) -> Answer<Done> {
    let ext = &request.header.ext;
    let header = QueryMessageHeader::decode(ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let is_unique = ext.get(UNIQUE_KEY_QUERY).is_some_and(|flag| flag == "true");
    let options = &shared.options;
    let asked =
        if is_unique { options.unique_query_count_max as i64 } else { header.max_num.into() };
    let count_max = usize::try_from(asked).unwrap_or(0).min(options.query_count_max);
    let store = shared.store.clone();
    later(request, async move {
        let query = Query {
            topic: &header.topic,
            key: &header.key,
            count_max,
            begin: WallMillis(header.begin_timestamp),
            end: WallMillis(header.end_timestamp),
        };
        let found = store.query(&query).await;
        let found = found
            .map_err(|error| Refusal::system_error(format!("failed to query by key: {error}")))?;
        if !found.complete {
            let (topic, key, n) = (query.topic, query.key, found.records.len());
            tracing::warn!("a query for {topic}#{key} ended early with {n} messages");
        }
        let (at, offset) = (found.last_timestamp.0, found.last_physical.0);
        let mut ext = vec![
            ("indexLastUpdateTimestamp", at.to_string()),
            ("indexLastUpdatePhyoffset", offset.to_string()),
        ];
        if found.records.is_empty() {
            let remark = "can not find message, maybe time range not correct";
            ext.iter_mut().for_each(|(_, value)| *value = "0".to_owned());
            let (code, remark) = (code::QUERY_NOT_FOUND, remark.into());
            return Ok(Done::Full { code, remark, ext, body: Bytes::new() });
        }
        let mut body = BytesMut::with_capacity(found.records.iter().map(Bytes::len).sum());
        for record in found.records.iter().rev() {
            body.extend_from_slice(record);
        }
        Ok(Done::Full { code: code::SUCCESS, remark: "".into(), ext, body: body.freeze() })
    })
}

/// Differs: an offset at which no record begins is refused; 4.9.3 returns whatever lies there.
pub(super) fn by_id(shared: &Arc<Shared>, request: &Request) -> Answer<Done> {
    let header = ViewMessageHeader::decode(&request.header.ext)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let not_found = format!("can not find message by the offset, {}", header.offset);
    let Ok(offset) = u64::try_from(header.offset) else {
        return Err(Refusal::system_error(not_found));
    };
    let store = shared.store.clone();
    later(request, async move {
        match store.record_at(PhysicalOffset(offset)).await {
            Ok(Some(record)) => Ok(Done::Body(record)),
            Ok(None) => Err(Refusal::system_error(not_found)),
            Err(error) => Err(Refusal::system_error(format!("{not_found}: {error}"))),
        }
    })
}
