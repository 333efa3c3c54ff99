//! Once all has settled, what is acked comes soon.

use super::cluster::{ClusterHouse, PROMPT};
use crate::history::Place;
use hotfire::rt::time::Duration;

/// Once all has settled, every reader has an acked message soon. Who has not found the queue yet,
/// because its topic is as new as the message, has no reader.
pub async fn is_prompt(house: ClusterHouse, id: u64, topic: String, place: Place) {
    let clients = house.machines(crate::plan::Role::Client).into_iter();
    let keys = clients.map(|client| (client, place.machine, topic.clone(), place.queue));
    let reading =
        |key: &(usize, usize, String, u32)| house.0.progress.lock().read_to.contains_key(key);
    let readers: Vec<_> = keys.filter(reading).collect();
    madsim::time::sleep(PROMPT).await;
    let mut progress = house.0.progress.lock();
    for key in readers {
        let (to, client) = (progress.read_to.get(&key).copied().unwrap_or(0), key.0);
        if !house.has_read(&progress, &key, id, place) {
            let what = format!(
                "message {id} was acked at {topic}/{} {} and not delivered to client {client} \
                 within {} ms: it reads at {to}",
                place.queue,
                place.queue_offset,
                PROMPT.as_millis()
            );
            house.court().check("liveness", Err(what));
            return;
        }
    }
    progress.prompt += 1;
    house.court().moved();
}

/// The same for a delayed message, once its time has come: broker, topic and queue are those it
/// will come to.
pub async fn is_prompt_after(
    house: ClusterHouse,
    id: u64,
    key: (usize, String, u32),
    wait_ms: i64,
) {
    let (broker, topic, queue) = key;
    let mut clients = house.machines(crate::plan::Role::Client);
    clients.retain(|client| {
        let reading = (*client, broker, topic.clone(), queue);
        house.0.progress.lock().read_to.contains_key(&reading)
    });
    let wait_ms = wait_ms.max(0);
    madsim::time::sleep(PROMPT + Duration::from_millis(wait_ms as u64)).await;
    for client in clients {
        if !house.court().history(|h| h.delivered.contains(&(client, id))) {
            let what = format!(
                "delayed message {id} was acked and did not come to client {client} within \
                 {wait_ms} + {} ms",
                PROMPT.as_millis()
            );
            house.court().check("liveness", Err(what));
            return;
        }
    }
    house.0.progress.lock().prompt += 1;
    house.court().moved();
}
