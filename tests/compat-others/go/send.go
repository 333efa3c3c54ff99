package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func sendChecks() []check {
	return []check{{"send-sync", sendSync}, {"send-async-oneway", sendAsyncOneway}, {"send-batch", sendBatch},
		{"send-compressed", sendCompressed}, {"ordered", ordered}, {"delay", delay}}
}

// received waits for all of a topic in a group of its own, and a moment for one too many.
func received(topic string, count int, more ...consumer.Option) ([]*primitive.MessageExt, error) {
	reader, err := subscribe(topic+"_reader", topic, all(), nil, more...)
	if err != nil {
		return nil, err
	}
	defer reader.consumer.Shutdown()
	err = await(fmt.Sprintf("%d messages", count), 60, func() bool { return reader.count() >= count })
	if err != nil {
		return nil, fmt.Errorf("%w, got %d", err, reader.count())
	}
	time.Sleep(300 * time.Millisecond)
	got := reader.messages()
	return got, equal(count, len(got), "deliveries")
}

func sendSync() (string, error) {
	made, err := newProducer("go_send_sync")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	sent, err := send(made, "GoSend", "TagA", 100)
	if err != nil {
		return "", err
	}
	if err := equal(100, len(sent), "message ids"); err != nil {
		return "", err
	}
	got, err := received("GoSend", 100)
	if err != nil {
		return "", err
	}
	queues := map[int]bool{}
	for _, message := range got {
		queues[message.Queue.QueueId] = true
	}
	if err := equal(4, len(queues), "queues used"); err != nil {
		return "", err
	}
	return "100 sent to 4 queues and read back: body, tag, keys, flag, properties", same(sent, contents(got), "GoSend")
}

func sendAsyncOneway() (string, error) {
	made, err := newProducer("go_send_async")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	var wait sync.WaitGroup
	var lock sync.Mutex
	sent := map[string]string{}
	var failed []string
	for at := 0; at < 50; at++ {
		message := newMessage("GoAsync", "T", at, fmt.Sprintf("async %d", at))
		want := content(message)
		wait.Add(1)
		err := made.SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
			defer wait.Done()
			lock.Lock()
			defer lock.Unlock()
			if err != nil || result.Status != primitive.SendOK {
				failed = append(failed, fmt.Sprint(result, err))
				return
			}
			sent[result.MsgID] = want
		}, message)
		if err != nil {
			return "", err
		}
	}
	wait.Wait()
	if err := equal(0, len(failed), fmt.Sprint("failures ", failed)); err != nil {
		return "", err
	}
	for at := 50; at < 100; at++ {
		message := newMessage("GoAsync", "T", at, fmt.Sprintf("oneway %d", at))
		want := content(message)
		if err := made.SendOneWay(context.Background(), message); err != nil {
			return "", err
		}
		sent[message.GetProperty(primitive.PropertyUniqueClientMessageIdKeyIndex)] = want
	}
	got, err := received("GoAsync", 100)
	if err != nil {
		return "", err
	}
	return "50 by callback and 50 oneway", same(sent, contents(got), "GoAsync")
}

func sendBatch() (string, error) {
	made, err := newProducer("go_send_batch")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	want := map[string]int{}
	for batch := 0; batch < 3; batch++ {
		var messages []*primitive.Message
		for at := batch * 20; at < batch*20+20; at++ {
			message := newMessage("GoBatch", "T", at, fmt.Sprintf("member %d", at))
			want[content(message)]++
			messages = append(messages, message)
		}
		result, err := made.SendSync(context.Background(), messages...)
		if err != nil {
			return "", err
		}
		if err := equal(primitive.SendOK, result.Status, "status"); err != nil {
			return "", err
		}
	}
	got, err := received("GoBatch", 60, consumer.WithConsumerOrder(true))
	if err != nil {
		return "", err
	}
	for _, message := range got {
		want[content(&message.Message)]--
	}
	for text, left := range want {
		if err := equal(0, left, "missing "+text); err != nil {
			return "", err
		}
	}
	return "3 batches of 20, all members found", dense(got)
}

func sendCompressed() (string, error) {
	made, err := newProducer("go_compressed")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	sent := map[string]string{}
	for at := 0; at < 5; at++ {
		message := newMessage("GoBig", "T", at, strings.Repeat(fmt.Sprintf("body %d ", at), 10_000*(at+1)))
		want := content(message)
		result, err := made.SendSync(context.Background(), message)
		if err != nil {
			return "", err
		}
		sent[result.MsgID] = want
	}
	got, err := received("GoBig", 5)
	if err != nil {
		return "", err
	}
	for _, message := range got {
		if int(message.StoreSize) > len(message.Body)/10 {
			return "", fmt.Errorf("expected a body that is stored compressed, got %d bytes for %d", message.StoreSize, len(message.Body))
		}
	}
	return "5 bodies of 70 to 350 KB, stored compressed", same(sent, contents(got), "GoBig")
}

type bySharding struct{}

func (bySharding) Select(message *primitive.Message, queues []*primitive.MessageQueue, _ string) *primitive.MessageQueue {
	hash := fnv.New32a()
	hash.Write([]byte(message.GetShardingKey()))
	return queues[hash.Sum32()%uint32(len(queues))]
}

func ordered() (string, error) {
	made, err := newProducer("go_ordered", producer.WithQueueSelector(bySharding{}))
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	for at := 0; at < 100; at++ {
		message := newMessage("GoOrdered", "T", at, fmt.Sprint(at))
		message.WithShardingKey(fmt.Sprint("order-", at%5))
		if _, err := made.SendSync(context.Background(), message); err != nil {
			return "", err
		}
	}
	// The third message of each key is refused once: its queue waits for it.
	var lock sync.Mutex
	suspended := map[string]int{}
	last := map[string]int{}
	refused := 0
	var wrong error
	reader, err := subscribe("go_ordered", "GoOrdered", all(), func(_ context.Context, message *primitive.MessageExt) consumer.ConsumeResult {
		lock.Lock()
		defer lock.Unlock()
		key, at := message.GetShardingKey(), 0
		fmt.Sscan(string(message.Body), &at)
		if at/5 == 2 && suspended[key] == 0 {
			suspended[key]++
			refused++
			return consumer.SuspendCurrentQueueAMoment
		}
		if before, ok := last[key]; ok && at != before+5 {
			wrong = fmt.Errorf("%s: %d came after %d", key, at, before)
		}
		last[key] = at
		return consumer.ConsumeSuccess
	}, consumer.WithConsumerOrder(true), consumer.WithSuspendCurrentQueueTimeMillis(200*time.Millisecond))
	if err != nil {
		return "", err
	}
	defer reader.consumer.Shutdown()
	if err := await("105 deliveries", 60, func() bool { return reader.count() >= 105 }); err != nil {
		return "", fmt.Errorf("%w, got %d", err, reader.count())
	}
	time.Sleep(300 * time.Millisecond)
	lock.Lock()
	defer lock.Unlock()
	if wrong != nil {
		return "", wrong
	}
	for key, at := range last {
		if err := equal(20, at/5+1, "messages of "+key); err != nil {
			return "", err
		}
	}
	if err := equal("5 5", fmt.Sprint(len(last), refused), "keys and refusals"); err != nil {
		return "", err
	}
	return "20 of each of 5 keys in order, each queue waited for what was refused", equal(105, reader.count(), "deliveries")
}

func delay() (string, error) {
	made, err := newProducer("go_delay")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	wanted := map[string]time.Duration{}
	for at := 0; at < 10; at++ {
		message := newMessage("GoDelay", "T", at, fmt.Sprint("delayed ", at))
		level := at%2 + 1
		message.WithDelayTimeLevel(level)
		result, err := made.SendSync(context.Background(), message)
		if err != nil {
			return "", err
		}
		wanted[result.MsgID] = time.Duration(level) * time.Second
	}
	got, err := received("GoDelay", 10)
	if err != nil {
		return "", err
	}
	for _, message := range got {
		want, ok := wanted[identity(message)]
		took := time.Duration(message.StoreTimestamp-message.BornTimestamp) * time.Millisecond
		if !ok || took < want-20*time.Millisecond || took > want+2*time.Second {
			return "", fmt.Errorf("%s: expected after %v, got after %v", message.Body, want, took)
		}
	}
	return "5 after 1 s and 5 after 2 s", nil
}
