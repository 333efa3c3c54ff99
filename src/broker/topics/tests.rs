//! The table of topics.

use super::*;

const NOW: WallMillis = WallMillis(1_700_000_000_000);

fn topics() -> Topics {
    Topics::new(&TopicOptions::default(), NOW)
}

fn send(topic: &str) -> FirstSend<'_> {
    FirstSend { topic, template: TEMPLATE_TOPIC, queues_wanted: 4, unit_mode: false }
}

#[test]
fn boot_topics_are_those_of_4_9_3() {
    let got: Vec<_> = topics()
        .iter()
        .map(|t| (t.name.to_string(), t.config.read_queue_nums, t.config.perm))
        .collect();
    let want = [
        ("BenchmarkTest", 1024, 6),
        ("DefaultCluster", 16, 7),
        ("DefaultCluster_REPLY_TOPIC", 1, 6),
        ("OFFSET_MOVED_EVENT", 1, 6),
        ("SCHEDULE_TOPIC_XXXX", 18, 6),
        ("SELF_TEST_TOPIC", 1, 6),
        ("TBW102", 8, 7),
        ("broker-a", 1, 7),
    ];
    let want: Vec<_> = want.iter().map(|(n, q, p)| (n.to_string(), *q, *p)).collect();
    assert_eq!(got, want);
}

#[test]
fn first_send_makes_a_topic_with_the_smaller_queue_count_and_no_inherit_bit() {
    let mut topics = topics();
    topics.create_on_send(NOW, send("T")).unwrap();
    let made = &topics.get("T").unwrap().config;
    assert_eq!((made.read_queue_nums, made.write_queue_nums, made.perm), (4, 4, 6));
    assert_eq!(topics.version().counter, 1);
    topics.create_on_send(NOW, send("T")).unwrap();
    assert_eq!(topics.version().counter, 1, "nothing changed the second time");
}

#[test]
fn first_send_is_refused_when_auto_creation_is_off_but_retry_topics_still_appear() {
    let options = TopicOptions { auto_create: false, ..TopicOptions::default() };
    let mut topics = Topics::new(&options, NOW);
    assert_eq!(topics.create_on_send(NOW, send("T")), Err(CreateError::NoTemplate));
    topics.create_on_send(NOW, send("%RETRY%g")).unwrap();
    assert_eq!(topics.get("%RETRY%g").unwrap().config.write_queue_nums, 1);
}

#[test]
fn a_negative_queue_count_makes_a_topic_without_queues() {
    let mut topics = topics();
    topics.create_on_send(NOW, FirstSend { queues_wanted: -3, ..send("T") }).unwrap();
    assert_eq!(topics.get("T").unwrap().config.write_queue_nums, 0);
}

#[test]
fn a_new_row_is_durable_only_after_the_save_that_holds_it() {
    let mut topics = topics();
    let first = topics.unsaved().unwrap();
    topics.create_on_send(NOW, send("T")).unwrap();
    topics.on_saved(first);
    let is_durable = |topics: &Topics, name| topics.is_durable(topics.get(name).unwrap());
    assert!(is_durable(&topics, "TBW102") && !is_durable(&topics, "T"));
    topics.on_saved(topics.unsaved().unwrap());
    assert!(is_durable(&topics, "T"));
    assert_eq!(topics.unsaved(), None);
}

#[test]
fn name_servers_know_what_is_durable() {
    let mut topics = topics();
    let told = |topics: &Topics| {
        let (version, rows) = topics.announced();
        let rows: Vec<_> = rows.map(|(_, row)| row).filter(|t| t.topic_name == "T").collect();
        (version.counter, rows.iter().map(|row| row.write_queue_nums).collect::<Vec<_>>())
    };
    assert_eq!((told(&topics), topics.announced().1.count()), ((0, vec![]), 8));
    topics.create_on_send(NOW, send("T")).unwrap();
    assert_eq!(told(&topics), (0, vec![]), "a power loss would take it");
    let first = topics.unsaved().unwrap();
    topics.update(NOW, TopicConfig::new("T", 6, 6)).unwrap();
    assert!(topics.on_saved(first));
    assert_eq!(told(&topics), (1, vec![]), "what it was in between is not kept");
    assert!(topics.on_saved(topics.unsaved().unwrap()));
    assert_eq!(told(&topics), (2, vec![6]));
    topics.update(NOW, TopicConfig::new("T", 9, 6)).unwrap();
    assert_eq!(told(&topics), (2, vec![6]));
    topics.remove(NOW, "T");
    topics.create_on_send(NOW, send("T")).unwrap();
    assert!(topics.on_saved(topics.unsaved().unwrap()));
    assert_eq!(told(&topics), (5, vec![4]));
    let mark = Mark { changes: topics.changes(), version: topics.version() };
    assert!(!topics.on_saved(mark), "nothing new");
}

#[test]
fn a_topic_that_a_slave_made_stays_beside_its_masters_until_that_has_it() {
    let mut master = topics();
    let mut slave = Topics::new(&TopicOptions::default(), WallMillis(2)).of_slave();
    let file = |master: &Topics| serde_json::from_str(&master.to_json()).unwrap();
    let has = |topics: &Topics, name| topics.get(name).is_some();
    master.create_on_send(NOW, send("there")).unwrap();
    assert!(slave.replace(file(&master)).is_empty());
    slave.create(WallMillis(6), "%RETRY%here", 1, 0).unwrap();
    slave.create_on_send(WallMillis(6), send("sent")).unwrap();
    assert!(slave.is_own(&TopicName::new("%RETRY%here")));
    let (changes, version) = (slave.changes(), slave.version());
    assert!(slave.replace(file(&master)).is_empty(), "nothing changed there");
    assert_eq!((slave.changes(), slave.version()), (changes, master.version()));
    assert_eq!(version, master.version(), "what is made here is no news of the master's");
    // What its master knew goes with it, what it never knew stays.
    master.remove(NOW, "there");
    assert_eq!(slave.replace(file(&master)), [TopicName::new("there")]);
    assert!(has(&slave, "%RETRY%here") && has(&slave, "sent"));
    let config = TopicConfig { read_queue_nums: 3, ..TopicConfig::new("%RETRY%here", 3, 6) };
    master.update(NOW, config).unwrap();
    assert!(slave.replace(file(&master)).is_empty());
    assert_eq!(slave.get("%RETRY%here").unwrap().config.read_queue_nums, 3);
    master.remove(NOW, "%RETRY%here");
    assert_eq!(slave.replace(file(&master)), [TopicName::new("%RETRY%here")]);
    assert!(!has(&slave, "%RETRY%here"), "the master had it");
    // What an administrator makes at a slave goes, as it did.
    slave.update(NOW, TopicConfig::new("told", 1, 6)).unwrap();
    assert_eq!(slave.replace(file(&master)), [TopicName::new("told")]);
    assert!(has(&slave, "sent"));
}

#[test]
fn topics_of_a_slave_leave_room_for_its_masters() {
    let options = TopicOptions { topics_max: 10, ..TopicOptions::default() };
    let (mut master, mut slave) = (topics(), Topics::new(&options, NOW).of_slave());
    slave.create(NOW, "%RETRY%a", 1, 0).unwrap();
    slave.create(NOW, "%RETRY%b", 1, 0).unwrap();
    assert_eq!(slave.create(NOW, "%RETRY%c", 1, 0), Err(CreateError::TooMany(10)));
    master.create_on_send(NOW, send("T")).unwrap();
    let file = serde_json::from_str(&master.to_json()).unwrap();
    assert_eq!(slave.replace(file), [TopicName::new("%RETRY%b")]);
    assert_eq!(slave.len(), 10);
}

#[test]
fn a_masters_topics_come_although_versions_are_the_same_by_chance() {
    let (mut master, mut slave) = (topics(), topics().of_slave());
    master.create_on_send(NOW, send("T")).unwrap();
    slave.update(NOW, TopicConfig::new("U", 1, 6)).unwrap();
    assert_eq!(master.version(), slave.version());
    let file = serde_json::from_str(&master.to_json()).unwrap();
    assert_eq!(slave.replace(file), [TopicName::new("U")]);
    assert!(slave.get("T").is_some());
}

#[test]
fn the_table_is_bounded() {
    let options = TopicOptions { topics_max: 9, ..TopicOptions::default() };
    let mut topics = Topics::new(&options, NOW);
    topics.create_on_send(NOW, send("T1")).unwrap();
    assert_eq!(topics.create_on_send(NOW, send("T2")), Err(CreateError::TooMany(9)));
}

#[test]
fn the_file_round_trips_and_overrides_boot_topics() {
    let mut topics = topics();
    topics.create_on_send(NOW, send("T")).unwrap();
    topics.update(NOW, TopicConfig::new(TEMPLATE_TOPIC, 3, 7)).unwrap();
    let file: TopicFile = serde_json::from_str(&topics.to_json()).unwrap();
    let mut again = Topics::new(&TopicOptions::default(), WallMillis(5));
    again.restore(file);
    assert_eq!(again.to_json(), topics.to_json());
    assert_eq!(again.unsaved(), None, "the file holds every boot topic");
    assert_eq!(again.get(TEMPLATE_TOPIC).unwrap().config.write_queue_nums, 3);
}

#[test]
fn the_file_has_apaches_shape() {
    let mut topics = topics();
    topics.table.retain(|name, _| &**name == "SELF_TEST_TOPIC");
    let want = "{\n\t\"dataVersion\":{\n\t\t\"counter\":0,\n\t\t\"timestamp\":1700000000000\n\
                \t},\n\t\"topicConfigTable\":{\n\t\t\"SELF_TEST_TOPIC\":{\n\
                \t\t\t\"order\":false,\n\t\t\t\"perm\":6,\n\t\t\t\"readQueueNums\":1,\n\
                \t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n\
                \t\t\t\"topicName\":\"SELF_TEST_TOPIC\",\n\t\t\t\"topicSysFlag\":0,\n\
                \t\t\t\"writeQueueNums\":1\n\t\t}\n\t}\n}";
    assert_eq!(topics.to_json(), want);
}

#[test]
fn names_are_judged_in_javas_words() {
    assert_eq!(name_fault("%RETRY%a-b_c|9"), None);
    assert_eq!(name_fault(" "), Some("The specified topic is blank."));
    assert!(name_fault("a b").unwrap().contains("illegal characters"));
    assert!(name_fault(&"a".repeat(128)).unwrap().contains("longer"));
}

#[test]
fn a_slave_has_from_its_master_which_topics_are_ordered() {
    let mut master = topics();
    let mut slave = Topics::new(&TopicOptions::default(), WallMillis(2)).of_slave();
    let file = |master: &Topics| serde_json::from_str(&master.to_json()).unwrap();
    master.create_on_send(NOW, send("T")).unwrap();
    slave.replace(file(&master));
    let (changes, version) = (slave.changes(), slave.version());
    let ordered = BTreeSet::from(["T".to_owned()]);
    slave.set_ordered(WallMillis(6), &ordered);
    assert_eq!((slave.changes(), slave.version()), (changes, version), "it told nobody's news");
    master.set_ordered(NOW, &ordered);
    slave.replace(file(&master));
    assert!(slave.get("T").unwrap().config.order);
    assert_eq!(slave.version(), master.version());
    slave.set_ordered(WallMillis(7), &BTreeSet::new());
    assert!(slave.get("T").unwrap().config.order);
}
