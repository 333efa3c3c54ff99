//! The client and the commands built on it, against a real name server and broker.

use super::broker::World;
use hotfire::broker::Broker;
use hotfire::client::{
    Client, Error, Identity, Interest, Message, MessageQueue, Options, PullRequest, PullResult,
    PullStatus, SendStatus, Subscription,
};
use hotfire::model::{GroupName, QueueOffset, TopicName, WallMillis};
use hotfire::namesrv::Namesrv;
use hotfire::rt::rng::Rng;
use hotfire::rt::time::Duration;
use hotfire::rt::{self, block_on};
use std::future::Future;
use std::process::{Command, Output, Stdio};

const SOON: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

/// A world with a name server.
struct Town {
    world: World,
    names: Namesrv,
}

impl Town {
    async fn new() -> Self {
        let world = World::new();
        Town { names: world.name_server().await, world }
    }

    fn name_server(&self) -> String {
        self.names.local_addr().unwrap().to_string()
    }

    async fn broker(&self) -> Broker {
        self.world.start(self.world.parts_at(&self.names)).await
    }

    fn client(&self, seed: u64) -> Client {
        let mut rng = Rng::from_seed(seed);
        let identity = Identity::new("127.0.0.1".parse().unwrap(), 1, &mut rng);
        let options = Options::of_name_servers(&self.name_server());
        Client::start(&self.world.net, &self.world.clock, &self.world.group, options, identity, rng)
    }

    /// Asks again until it is so: routes and members come to a client with a delay.
    async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, ask: impl Fn() -> F) -> T {
        let deadline = self.world.clock.mono() + PATIENCE;
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            assert!(self.world.clock.mono() < deadline, "not within {PATIENCE:?}: {what}");
            self.world.clock.sleep_until(self.world.clock.mono() + SOON).await;
        }
    }

    async fn queues(&self, client: &Client, topic: &str) -> Vec<MessageQueue> {
        let topic = TopicName::new(topic);
        self.until("the topic has a route", || async { client.subscribe_queues(&topic).await.ok() })
            .await
    }

    /// Sends until the topic can be made: a broker that just started may not be known yet.
    async fn send_first(&self, client: &Client, message: &Message) {
        self.until("a message is sent", || async { client.send(message).await.ok() }).await;
    }

    async fn end(self) {
        self.names.shutdown().await;
        self.world.group.shutdown(&self.world.clock, self.world.clock.mono() + PATIENCE).await;
    }
}

async fn pull(
    client: &Client,
    group: &GroupName,
    queue: &MessageQueue,
    from: QueueOffset,
    wanted: &Subscription,
    may_wait: bool,
) -> Result<PullResult, Error> {
    let request = PullRequest {
        group,
        queue,
        from,
        count_max: 32,
        subscription: wanted,
        as_registered: false,
        may_wait,
        commit: None,
    };
    client.pull(&request).await
}

/// The bodies from `from` to the end of each queue; commits the ends.
async fn drain(client: &Client, group: &str, queues: &[MessageQueue], filter: &str) -> Vec<String> {
    let (group, mut bodies) = (GroupName::new(group), Vec::new());
    let wanted = Subscription::tags(&queues[0].topic, filter, 0).unwrap();
    for queue in queues {
        let mut next = client.committed_offset(&group, queue).await.unwrap().unwrap_or_default();
        loop {
            let pulled = pull(client, &group, queue, next, &wanted, false).await.unwrap();
            for view in pulled.messages(&wanted) {
                bodies.push(String::from_utf8(view.unwrap().body().to_vec()).unwrap());
            }
            next = pulled.next;
            if pulled.status == PullStatus::NoNewMessage {
                break;
            }
        }
        client.commit_offset(&group, queue, next).await.unwrap();
    }
    bodies.sort();
    bodies
}

#[test]
fn what_is_sent_is_read_once_and_progress_is_kept_across_a_restart() {
    block_on(async {
        let town = Town::new().await;
        let broker = town.broker().await;
        let client = town.client(1);
        town.send_first(&client, &Message::new("T", "000")).await;
        let mut sent = vec!["000".to_owned()];
        for number in 1..100 {
            let (body, tag) =
                (format!("{number:03}"), if number % 2 == 0 { "even" } else { "odd" });
            let message = Message::new("T", body.clone()).with_tag(tag).with_key(&body);
            let result = client.send(&message).await.unwrap();
            assert_eq!((result.status, result.tries), (SendStatus::Ok, 1));
            sent.push(body);
        }
        let queues = town.queues(&client, "T").await;
        assert_eq!(queues.len(), 4);
        assert_eq!(drain(&client, "all", &queues, "*").await, sent);
        assert_eq!(drain(&client, "odd", &queues, "odd || none").await.len(), 50);
        assert!(drain(&client, "all", &queues, "*").await.is_empty());
        for queue in &queues {
            assert_eq!(client.min_offset(queue).await.unwrap(), QueueOffset(0));
            assert!(client.max_offset(queue).await.unwrap() >= QueueOffset(24));
        }
        broker.shutdown().await;
        let broker = town.broker().await;
        let client = town.client(2);
        let queues = town.queues(&client, "T").await;
        assert!(drain(&client, "all", &queues, "*").await.is_empty(), "offsets were kept");
        town.send_first(&client, &Message::new("T", "after")).await;
        assert_eq!(drain(&client, "all", &queues, "*").await, ["after"]);
        assert_eq!(drain(&client, "new", &queues, "*").await.len(), 101);
        broker.shutdown().await;
        town.end().await;
    });
}

#[test]
fn a_pull_that_waits_is_answered_by_the_next_message() {
    block_on(async {
        let town = Town::new().await;
        let broker = town.broker().await;
        let client = town.client(1);
        town.send_first(&client, &Message::new("T", "first")).await;
        let queues = town.queues(&client, "T").await;
        let (group, wanted) = (GroupName::new("g"), Subscription::tags("T", "*", 0).unwrap());
        let end = client.max_offset(&queues[0]).await.unwrap();
        let begun = town.world.clock.mono();
        let waiting = pull(&client, &group, &queues[0], end, &wanted, true);
        let (sender, message) = (town.client(2), Message::new("T", "second"));
        let sending = async {
            town.world.clock.sleep_until(begun + Duration::from_millis(200)).await;
            sender.send_to(&queues[0], &message).await.unwrap();
            std::future::pending::<()>().await
        };
        let pulled = rt::select! {
            pulled = waiting => pulled.unwrap(),
            _ = sending => unreachable!("it waits for ever"),
        };
        assert_eq!(pulled.status, PullStatus::Found);
        assert_eq!(pulled.next, QueueOffset(end.0 + 1));
        let waited = town.world.clock.mono().since(begun);
        assert!(waited >= Duration::from_millis(200) && waited < PATIENCE, "{waited:?}");
        broker.shutdown().await;
        town.end().await;
    });
}

#[test]
fn members_of_a_group_know_of_each_other() {
    block_on(async {
        let town = Town::new().await;
        let broker = town.broker().await;
        let (one, two) = (town.client(1), town.client(2));
        town.send_first(&one, &Message::new("T", "x")).await;
        town.queues(&one, "T").await;
        let (group, topic) = (GroupName::new("g"), TopicName::new("T"));
        assert!(one.members(&group, &topic).await.unwrap().is_empty());
        let interest = Interest {
            subscriptions: vec![Subscription::tags("T", "*", 1).unwrap()],
            from_first: true,
        };
        one.join(&group, interest.clone()).await.unwrap();
        let mut changes = one.member_changes();
        two.join(&group, interest).await.unwrap();
        let deadline = town.world.clock.mono() + PATIENCE;
        assert!(town.world.clock.before(deadline, changes.changed()).await.is_some(), "no notice");
        let mut both = vec![one.client_id(), two.client_id()];
        both.sort();
        let mut known = one.members(&group, &topic).await.unwrap();
        known.sort();
        assert_eq!(known, both);
        two.leave(&group).await;
        assert_eq!(one.members(&group, &topic).await.unwrap(), [one.client_id()]);
        broker.shutdown().await;
        town.end().await;
    });
}

#[test]
fn offsets_are_found_by_time() {
    block_on(async {
        let town = Town::new().await;
        let broker = town.broker().await;
        let client = town.client(1);
        town.send_first(&client, &Message::new("T", "x")).await;
        let queue = town.queues(&client, "T").await.remove(0);
        for _ in 0..3 {
            client.send_to(&queue, &Message::new("T", "x")).await.unwrap();
        }
        let first = client.search_offset(&queue, WallMillis(0)).await.unwrap();
        assert_eq!(first, QueueOffset(0));
        broker.shutdown().await;
        town.end().await;
    });
}

/// Runs the binary while this thread serves it.
async fn hotfire(args: &[&str], input: &str) -> Output {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let input = input.to_owned();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hotfire"));
        command.args(&args).env_remove("NAMESRV_ADDR").env_remove("HOTFIRE_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    rt::task::blocking(run).await.unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn produce_prints_a_line_per_send_and_consume_a_line_per_message() {
    block_on(async {
        let town = Town::new().await;
        let broker = town.broker().await;
        let names = town.name_server();
        town.send_first(&town.client(1), &Message::new("Made", "x")).await;
        let produce = ["produce", "-n", &names, "-t", "T", "--tag", "A", "--key", "k"];
        let sent = hotfire(&produce, "one\ntwo\n\nthree\n").await;
        assert!(sent.status.success(), "{sent:?}");
        assert_eq!(lines(&sent).len(), 3);
        for line in lines(&sent) {
            let fields: Vec<_> = line.split(' ').collect();
            assert_eq!((fields.len(), fields[0], fields[1].len()), (4, "SEND_OK", 32), "{line}");
            assert!(fields[2].starts_with("broker-a:") && fields[3].parse::<u64>().is_ok());
        }
        town.queues(&town.client(2), "T").await;
        let consume = ["consume", "-n", &names, "-t", "T", "-g", "g"];
        let mut bodies: Vec<_> = lines(&hotfire(&consume, "").await)
            .iter()
            .map(|line| line.rsplit('\t').next().unwrap().to_owned())
            .collect();
        bodies.sort();
        assert_eq!(bodies, ["one", "three", "two"]);
        assert!(lines(&hotfire(&consume, "").await).is_empty(), "it committed what it printed");
        let again = [&consume[..], &["--from", "first", "--count", "2", "--json"]].concat();
        let printed = lines(&hotfire(&again, "").await);
        assert_eq!(printed.len(), 2);
        let first: serde_json::Value = serde_json::from_str(&printed[0]).unwrap();
        assert_eq!(
            (&first["tags"], &first["keys"], &first["topic"]),
            (&"A".into(), &"k".into(), &"T".into())
        );
        let none = [&consume[..], &["--from", "first", "--filter", "B"]].concat();
        assert!(lines(&hotfire(&none, "").await).is_empty());
        broker.shutdown().await;
        town.end().await;
    });
}

#[test]
fn the_commands_say_by_their_exit_code_what_was_wrong() {
    block_on(async {
        let town = Town::new().await;
        let names = town.name_server();
        for (args, code) in [
            (vec!["produce", "-n", &names, "-t", "a b", "x"], 2),
            (vec!["produce", "-t", "T", "x"], 2),
            (vec!["produce", "-n", &names, "-t", "T", "x"], 1),
            (vec!["produce", "-n", "127.0.0.1:1", "-t", "T", "x"], 3),
            (vec!["consume", "-n", &names, "-t", "T", "-g", "g"], 1),
            (vec!["consume", "-n", &names, "-t", "T", "-g", "g", "--from", "never"], 2),
        ] {
            let output = hotfire(&args, "").await;
            assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
            assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
        }
        town.end().await;
    });
}
