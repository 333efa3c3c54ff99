package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func consumeChecks() []check {
	return []check{{"push-two-members", twoMembers}, {"push-resumes", resumes}, {"push-broadcast", broadcast},
		{"push-tags", tags}, {"push-sql92", sql}, {"retry", retry}, {"retry-dead", dead}, {"pull", pull}, {"poll", poll}}
}

func twoMembers() (string, error) {
	made, err := newProducer("go_two")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	one, err := subscribe("go_two", "GoTwo", all(), nil)
	if err != nil {
		return "", err
	}
	defer one.consumer.Shutdown()
	two, err := subscribe("go_two", "GoTwo", all(), nil)
	if err != nil {
		return "", err
	}
	defer two.consumer.Shutdown()
	sent := map[string]string{}
	rounds := 0
	// The client rebalances by its timer of 20 s too, and what is under way then may come to both: sends until both have
	// had their share of one round.
	err = await("a round of 80 that both members share", 60, func() bool {
		round, err := send(made, "GoTwo", fmt.Sprint("R", rounds), 80)
		if err != nil {
			return false
		}
		rounds++
		for id, text := range round {
			sent[id] = text
		}
		shares := func() (int, int) {
			return among(round, contents(one.messages())), among(round, contents(two.messages()))
		}
		_ = await("its end", 3, func() bool {
			mine, theirs := shares()
			return mine+theirs >= 80
		})
		mine, theirs := shares()
		return mine == 40 && theirs == 40
	})
	if err != nil {
		return "", fmt.Errorf("%w; %d rounds, %d and %d deliveries", err, rounds, one.count(), two.count())
	}
	got := contents(append(one.messages(), two.messages()...))
	return fmt.Sprintf("%d of %d, the last 80 shared 40 to 40", len(sent), rounds*80), same(sent, got, "GoTwo")
}

// among counts the messages of a round that a member has got.
func among(round, got map[string]string) int {
	count := 0
	for id := range round {
		if _, ok := got[id]; ok {
			count++
		}
	}
	return count
}

func resumes() (string, error) {
	made, err := newProducer("go_resumes")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	first, err := send(made, "GoResumes", "T", 40)
	if err != nil {
		return "", err
	}
	got, err := received("GoResumes", 40)
	if err != nil {
		return "", err
	}
	if err := same(first, contents(got), "first start"); err != nil {
		return "", err
	}
	second, err := send(made, "GoResumes", "T", 30)
	if err != nil {
		return "", err
	}
	if got, err = received("GoResumes", 30); err != nil {
		return "", err
	}
	return "40, and 30 more after a restart", same(second, contents(got), "second start")
}

func broadcast() (string, error) {
	made, err := newProducer("go_broadcast")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	var members []*member
	for range [2]int{} {
		one, err := subscribe("go_broadcast", "GoBroadcast", all(), nil, consumer.WithConsumerModel(consumer.BroadCasting))
		if err != nil {
			return "", err
		}
		defer one.consumer.Shutdown()
		members = append(members, one)
	}
	time.Sleep(3 * time.Second)
	sent, err := send(made, "GoBroadcast", "T", 60)
	if err != nil {
		return "", err
	}
	for at, one := range members {
		if err := await("60 messages", 40, func() bool { return one.count() >= 60 }); err != nil {
			return "", fmt.Errorf("member %d: %w, got %d", at, err, one.count())
		}
		if err := same(sent, contents(one.messages()), fmt.Sprint("member ", at)); err != nil {
			return "", err
		}
	}
	return "60 at each of two members", equal("60 60", fmt.Sprint(members[0].count(), members[1].count()), "deliveries")
}

// filtered sends 30 of each of three tags with the property a from 0 to 29.
func filtered(group, topic string, selector consumer.MessageSelector, wanted func(tag string, at int) bool) (int, error) {
	made, err := newProducer(group)
	if err != nil {
		return 0, err
	}
	defer made.Shutdown()
	reader, err := subscribe(group, topic, selector, nil)
	if err != nil {
		return 0, err
	}
	defer reader.consumer.Shutdown()
	sent := map[string]string{}
	for _, tag := range []string{"TagA", "TagB", "TagC"} {
		for at := 0; at < 30; at++ {
			message := newMessage(topic, tag, at, fmt.Sprint(tag, " ", at))
			message.WithProperty("a", fmt.Sprint(at))
			result, err := made.SendSync(context.Background(), message)
			if err != nil {
				return 0, err
			}
			if wanted(tag, at) {
				sent[result.MsgID] = content(message)
			}
		}
	}
	if err := await(fmt.Sprint(len(sent), " messages"), 60, func() bool { return reader.count() >= len(sent) }); err != nil {
		return 0, fmt.Errorf("%w, got %d", err, reader.count())
	}
	time.Sleep(500 * time.Millisecond)
	if err := equal(len(sent), reader.count(), "deliveries"); err != nil {
		return 0, err
	}
	return len(sent), same(sent, contents(reader.messages()), topic)
}

func tags() (string, error) {
	count, err := filtered("go_tags", "GoTags", consumer.MessageSelector{Type: consumer.TAG, Expression: "TagA || TagC"},
		func(tag string, _ int) bool { return tag != "TagB" })
	return fmt.Sprintf("%d of 90, each once", count), err
}

func sql() (string, error) {
	count, err := filtered("go_sql", "GoSql", consumer.MessageSelector{Type: consumer.SQL92, Expression: "(a BETWEEN 10 AND 19) AND TAGS <> 'TagB'"},
		func(tag string, at int) bool { return tag != "TagB" && at >= 10 && at < 20 })
	return fmt.Sprintf("%d of 90, each once", count), err
}

// again delivers five messages to a listener that refuses each while `refuses` says so; answers the tries by message.
func again(group, topic string, tries int, refuses func(times int32) bool, more ...consumer.Option) (map[string][]int32, error) {
	made, err := newProducer(group)
	if err != nil {
		return nil, err
	}
	defer made.Shutdown()
	sent, err := send(made, topic, "T", 5)
	if err != nil {
		return nil, err
	}
	var lock sync.Mutex
	seen := map[string][]int32{}
	reader, err := subscribe(group, topic, all(), func(ctx context.Context, message *primitive.MessageExt) consumer.ConsumeResult {
		lock.Lock()
		defer lock.Unlock()
		seen[identity(message)] = append(seen[identity(message)], message.ReconsumeTimes)
		if refuses(message.ReconsumeTimes) {
			if own, ok := primitive.GetConcurrentlyCtx(ctx); ok {
				own.DelayLevelWhenNextConsume = 1
			}
			return consumer.ConsumeRetryLater
		}
		return consumer.ConsumeSuccess
	}, more...)
	if err != nil {
		return nil, err
	}
	defer reader.consumer.Shutdown()
	if err := await(fmt.Sprint(tries, " tries"), 75, func() bool { return reader.count() >= tries }); err != nil {
		return nil, fmt.Errorf("%w, got %d", err, reader.count())
	}
	time.Sleep(3 * time.Second)
	lock.Lock()
	defer lock.Unlock()
	if err := equal(tries, reader.count(), "tries"); err != nil {
		return nil, err
	}
	for _, message := range reader.messages() {
		if err := equal(sent[identity(message)], content(&message.Message), "content of a try"); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

func retry() (string, error) {
	seen, err := again("go_retry", "GoRetry", 15, func(times int32) bool { return times < 2 })
	if err != nil {
		return "", err
	}
	for id, times := range seen {
		if err := equal("[0 1 2]", fmt.Sprint(times), "reconsume times of "+id); err != nil {
			return "", err
		}
	}
	return "5 messages, three tries each, the same content", equal(5, len(seen), "messages")
}

func dead() (string, error) {
	seen, err := again("go_dead", "GoDead", 10, func(int32) bool { return true }, consumer.WithMaxReconsumeTimes(1))
	if err != nil {
		return "", err
	}
	got, err := pullAll("go_dead_letters", "%DLQ%go_dead", 1, 5)
	if err != nil {
		return "", err
	}
	for _, message := range got {
		if err := equal("[0 1]", fmt.Sprint(seen[identity(message)]), "tries of a dead letter"); err != nil {
			return "", err
		}
	}
	return "5 messages dead after two tries", equal(5, len(got), "dead letters")
}

func puller(group, topic string) (rocketmq.PullConsumer, []*primitive.MessageQueue, error) {
	made, err := rocketmq.NewPullConsumer(consumer.WithNsResolver(nameServers()), consumer.WithGroupName(group), consumer.WithInstance(instance()))
	if err != nil {
		return nil, nil, err
	}
	if err := made.Assign(topic, nil); err != nil {
		return nil, nil, err
	}
	if err := made.Start(); err != nil {
		return nil, nil, err
	}
	queues, err := made.GetTopicRouteInfo(topic)
	return made, queues, err
}

func pullAll(group, topic string, queues, count int) ([]*primitive.MessageExt, error) {
	made, found, err := puller(group, topic)
	if err != nil {
		return nil, err
	}
	defer made.Shutdown()
	if err := equal(queues, len(found), "queues"); err != nil {
		return nil, err
	}
	var got []*primitive.MessageExt
	next := map[int]int64{}
	// The Java broker fills its queues a moment after it has answered the sender.
	for end := time.Now().Add(20 * time.Second); len(got) < count && time.Now().Before(end); {
		for _, queue := range found {
			for isMore := true; isMore && len(got) < count; {
				result, err := made.PullFrom(context.Background(), queue, next[queue.QueueId], 7)
				if err != nil {
					return nil, err
				}
				got = append(got, result.GetMessageExts()...)
				next[queue.QueueId] = result.NextBeginOffset
				isMore = result.NextBeginOffset < result.MaxOffset
			}
		}
	}
	if err := equal(count, len(got), "messages pulled"); err != nil {
		return nil, err
	}
	return got, dense(got)
}

func pull() (string, error) {
	made, err := newProducer("go_pull")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	sent, err := send(made, "GoPull", "T", 80)
	if err != nil {
		return "", err
	}
	got, err := pullAll("go_pull", "GoPull", 4, 80)
	if err != nil {
		return "", err
	}
	return "80 from 4 queues, 7 at a time", same(sent, contents(got), "GoPull")
}

func polled(count int) ([]*primitive.MessageExt, error) {
	made, err := rocketmq.NewPullConsumer(consumer.WithNsResolver(nameServers()), consumer.WithGroupName("go_poll"),
		consumer.WithInstance(instance()), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	if err != nil {
		return nil, err
	}
	if err := made.Subscribe("GoPoll", all()); err != nil {
		return nil, err
	}
	if err := made.Start(); err != nil {
		return nil, err
	}
	defer made.Shutdown()
	var got []*primitive.MessageExt
	err = await(fmt.Sprint(count, " messages"), 60, func() bool {
		request, err := made.Poll(context.Background(), time.Second)
		if err == nil {
			got = append(got, request.GetMsgList()...)
			made.ACK(context.Background(), request, consumer.ConsumeSuccess)
		}
		return len(got) >= count
	})
	if err != nil {
		return nil, fmt.Errorf("%w, got %d", err, len(got))
	}
	return got, equal(count, len(got), "deliveries")
}

func poll() (string, error) {
	made, err := newProducer("go_poll")
	if err != nil {
		return "", err
	}
	defer made.Shutdown()
	for _, count := range []int{60, 20} {
		sent, err := send(made, "GoPoll", "T", count)
		if err != nil {
			return "", err
		}
		got, err := polled(count)
		if err != nil {
			return "", err
		}
		if err := same(sent, contents(got), fmt.Sprint(count, " messages")); err != nil {
			return "", err
		}
	}
	return "60 polled and acknowledged, and 20 more after a restart", nil
}
