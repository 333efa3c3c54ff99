'use strict';
// The Node client (package ali-ons) against the servers that run.sh has started.
//
// Environment: NAMESRV (host:port), ONLY (run the checks whose name starts so). Prints one line for each check and last
// `note done`. The client can neither send batches and transactions nor pull by hand, and has no orderly listener.

const crypto = require('crypto');
const { Consumer, Message, Producer } = require('ali-ons');

const nameSrv = process.env.NAMESRV;
const only = process.env.ONLY || '';
const LIMIT_MS = 90000;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const httpclient = { request: async () => ({ status: 200, data: nameSrv }) }; // never asked: nameSrv is given
let instances = 0;

const sleep = ms => new Promise(done => setTimeout(done, ms));

function equal(expected, got, what) {
  if (String(expected) !== String(got)) throw new Error(`${what}: expected ${expected}, got ${got}`);
}

async function until(what, seconds, holds, count) {
  const end = Date.now() + seconds * 1000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`expected within ${seconds} s: ${what}, got ${count()}`);
    await sleep(20);
  }
}

function same(expected, got, what) {
  const wrong = [];
  for (const [ id, content ] of expected) {
    if (!got.has(id)) wrong.push(`missing ${id}`);
    else if (got.get(id) !== content) wrong.push(`${content} became ${got.get(id)}`);
  }
  for (const id of got.keys()) if (!expected.has(id)) wrong.push(`unexpected ${id}`);
  if (wrong.length) throw new Error(`${what}: expected ${expected.size} messages, got ${got.size}: ${wrong.length} wrong, e.g. ${wrong[0]}`);
}

// All of a message that must come back: body, tag, keys, flag and the properties of the user.
function content(message) {
  const own = Object.keys(message.properties).filter(name => name.startsWith('p-')).sort()
    .map(name => `${name}=${message.properties[name]}`);
  return [ message.flag, message.tags, message.keys, own.join(), message.body.toString() ].join('|');
}

async function newProducer(group) {
  const made = new Producer({ httpclient, nameSrv, logger: quiet, producerGroup: group, instanceName: `node${instances++}` });
  made.on('error', () => {});
  await made.ready();
  return made;
}

function newMessage(topic, tag, at, body) {
  const message = new Message(topic, tag, body);
  message.keys = [ `k${at}`, 'shared' ];
  message.flag = at;
  message.properties['p-number'] = String(at);
  message.properties['p-text'] = `Grüße 你好 ${at}`;
  return message;
}

// The client gives messages no id of their own, and the broker's changes on the way back from a delay.
async function send(made, topic, tag, count, change = () => {}) {
  const sent = new Map();
  const ids = new Set();
  for (let at = 0; at < count; at++) {
    const message = newMessage(topic, tag, at, `${topic} ${tag} message ${at}`);
    change(message, at);
    const want = content(message);
    const result = await made.send(message);
    equal('SEND_OK', result.sendStatus, 'status');
    ids.add(result.msgId);
    sent.set(want.slice(0, 100), want);
  }
  equal(count, ids.size, 'message ids');
  return sent;
}

// A push consumer and all that it was given, in order.
async function member(group, topic, expression = '*', listen = () => {}, more = {}) {
  const own = { got: [] };
  own.consumer = new Consumer(Object.assign({ httpclient, nameSrv, logger: quiet, consumerGroup: group,
    instanceName: `node${instances++}`, consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET' }, more));
  own.consumer.on('error', () => {});
  own.consumer.subscribe(topic, expression, async message => {
    own.got.push(Object.assign({}, message, { id: content(message).slice(0, 100), content: content(message) }));
    return listen(message);
  });
  own.contents = () => new Map(own.got.map(one => [ one.id, one.content ]));
  own.arrive = async (count, seconds = 60) => {
    await until(`${count} deliveries`, seconds, () => own.got.length >= count, () => own.got.length);
    await sleep(500);
    equal(count, own.got.length, 'deliveries');
  };
  await own.consumer.ready();
  return own;
}

async function received(topic, count) {
  const reader = await member(`${topic}_reader`, topic);
  await reader.arrive(count);
  await reader.consumer.close();
  return reader;
}

const checks = {
  'send-sync': async () => {
    const sent = await send(await newProducer('node_sync'), 'NodeSend', 'TagA', 100);
    const reader = await received('NodeSend', 100);
    same(sent, reader.contents(), 'NodeSend');
    equal(4, new Set(reader.got.map(one => one.queueId)).size, 'queues used');
    return '100 sent to 4 queues and read back: body, tag, keys, flag, properties';
  },

  'send-compressed': async () => {
    const made = await newProducer('node_big');
    const sent = await send(made, 'NodeBig', 'T', 3, (message, at) => {
      message.body = Buffer.from(`body ${at} `.repeat(10000 * (at + 1)));
    });
    const reader = await received('NodeBig', 3);
    same(sent, reader.contents(), 'NodeBig');
    for (const one of reader.got) {
      if (one.storeSize > one.body.length / 10) throw new Error(`expected a body that is stored compressed, got ${one.storeSize} bytes for ${one.body.length}`);
    }
    return '3 bodies of 70 to 210 KB, stored compressed';
  },

  ordered: async () => {
    const made = await newProducer('node_ordered');
    // The client spreads the keys of its first queue over all.
    const fixed = Array.from({ length: 40 }, (_, at) => `order-${at}`)
      .filter(key => crypto.createHash('md5').update(key).digest().readUInt32BE() % 4 !== 0).slice(0, 5);
    await send(made, 'NodeOrdered', 'T', 100, (message, at) => { message.shardingKey = fixed[at % 5]; });
    const reader = await received('NodeOrdered', 100);
    const keys = new Map();
    for (const one of reader.got) {
      const key = one.properties.__SHARDING_KEY;
      keys.set(key, (keys.get(key) || []).concat({ queue: one.queueId, at: one.flag }));
    }
    equal(5, keys.size, 'keys');
    for (const [ key, places ] of keys) {
      equal(1, new Set(places.map(one => one.queue)).size, `queues of ${key}`);
      equal(Array.from({ length: 20 }, (_, at) => at * 5 + places[0].at % 5), places.map(one => one.at), `order of ${key}`);
    }
    return '20 of each of 5 sharding keys, each in one queue and in order';
  },

  delay: async () => {
    const made = await newProducer('node_delay');
    const sent = await send(made, 'NodeDelay', 'T', 10, (message, at) => { message.delayTimeLevel = at % 2 + 1; });
    const reader = await received('NodeDelay', 10);
    same(sent, reader.contents(), 'NodeDelay');
    for (const one of reader.got) {
      const want = 1000 * (one.flag % 2 + 1);
      const took = Number(one.storeTimestamp) - Number(one.bornTimestamp);
      if (took < want - 20 || took > want + 2000) throw new Error(`message ${one.flag}: expected after ${want} ms, got after ${took} ms`);
    }
    return '5 after 1 s and 5 after 2 s';
  },

  'push-two-members': async () => {
    const made = await newProducer('node_two');
    const one = await member('node_two', 'NodeTwo');
    const two = await member('node_two', 'NodeTwo');
    const sent = new Map();
    const end = Date.now() + 60000;
    // The client rebalances by its timer too, and what is under way then may come to both: until both had their share.
    for (let round = 1; ; round++) {
      const now = await send(made, 'NodeTwo', `R${round}`, 80);
      for (const [ id, text ] of now) sent.set(id, text);
      const shares = () => [ one, two ].map(each => [ ...each.contents().keys() ].filter(id => now.has(id)).length);
      await until('a round\'s end', 20, () => shares()[0] + shares()[1] >= 80, shares);
      const share = shares().join(' ');
      if (share === '40 40') {
        same(sent, new Map([ ...one.contents(), ...two.contents() ]), 'NodeTwo');
        return `${sent.size} of ${80 * round}, the last 80 shared 40 to 40`;
      }
      if (Date.now() > end) throw new Error(`expected a round that both share, got ${share} after ${round} rounds`);
      await sleep(1000);
    }
  },

  'push-resumes': async () => {
    const made = await newProducer('node_resumes');
    const first = await send(made, 'NodeResumes', 'T', 40);
    same(first, (await received('NodeResumes', 40)).contents(), 'first start');
    const second = await send(made, 'NodeResumes', 'T', 30);
    same(second, (await received('NodeResumes', 30)).contents(), 'second start');
    return '40, and 30 more after a restart';
  },

  'push-broadcast': async () => {
    const made = await newProducer('node_broadcast');
    const members = [];
    for (let at = 0; at < 2; at++) members.push(await member('node_broadcast', 'NodeBroadcast', '*', () => {}, { isBroadcast: true }));
    await sleep(3000);
    const sent = await send(made, 'NodeBroadcast', 'T', 60);
    for (const one of members) {
      await one.arrive(60);
      same(sent, one.contents(), 'a member');
    }
    return '60 at each of two members';
  },

  'push-tags': () => filtered('node_tags', 'NodeTags', 'TagA || TagC', tag => tag !== 'TagB'),

  'push-sql92': () => filtered('node_sql', 'NodeSql', { expressionType: 'SQL92', subString: '(a BETWEEN 10 AND 19) AND TAGS <> \'TagB\'' },
    (tag, at) => tag !== 'TagB' && at >= 10 && at < 20),

  retry: async () => {
    const made = await newProducer('node_retry');
    const sent = await send(made, 'NodeRetry', 'T', 5);
    const reader = await member('node_retry', 'NodeRetry', '*', message => {
      if (message.reconsumeTimes === 0) return Consumer.ACTION_RETRY;
      if (message.reconsumeTimes === 1) throw new Error('refused'); // the client loses what is returned for a retried message
    });
    await reader.arrive(15, 80);
    const tries = new Map();
    for (const one of reader.got) {
      equal(sent.get(one.id), one.content, 'content of a try');
      tries.set(one.id, (tries.get(one.id) || []).concat(one.reconsumeTimes));
    }
    equal(5, tries.size, 'messages');
    for (const [ id, times ] of tries) equal('0,1,2', times, `reconsume times of ${id}`);
    return '5 messages, three tries each, the same content';
  },
};

async function filtered(group, topic, expression, wanted) {
  const made = await newProducer(group);
  const reader = await member(group, topic, expression);
  const sent = new Map();
  for (const tag of [ 'TagA', 'TagB', 'TagC' ]) {
    const all = await send(made, topic, tag, 30, (message, at) => { message.properties.a = String(at); });
    [ ...all ].forEach(([ id, text ], at) => { if (wanted(tag, at)) sent.set(id, text); });
  }
  await reader.arrive(sent.size);
  same(sent, reader.contents(), topic);
  return `${sent.size} of 90, each once`;
}

async function report(name, check) {
  const begun = Date.now();
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`expected an end within ${LIMIT_MS / 1000} s, got none`)), LIMIT_MS);
  });
  try {
    const figures = await Promise.race([ check(), late ]);
    console.log(`ok node-${name}: ${figures} (${Date.now() - begun} ms)`);
  } catch (error) {
    console.log(`FAIL node-${name}: ${String(error.message).split(/\s+/).join(' ').slice(0, 600)}`);
  }
  clearTimeout(timer);
}

process.on('unhandledRejection', error => console.error(error));
Promise.all(Object.entries(checks).filter(([ name ]) => `node-${name}`.startsWith(only)).map(([ name, check ]) => report(name, check)))
  .then(() => {
    console.log('note done');
    process.exit(0);
  });
