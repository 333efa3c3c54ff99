package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

var instances int64

// Clients of one instance name share connections; these do not.
func instance() string {
	return "go" + strconv.FormatInt(atomic.AddInt64(&instances, 1), 10)
}

func nameServers() primitive.NsResolver {
	return primitive.NewPassthroughResolver([]string{os.Getenv("NAMESRV")})
}

func newProducer(group string, more ...producer.Option) (rocketmq.Producer, error) {
	options := append([]producer.Option{producer.WithNsResolver(nameServers()), producer.WithGroupName(group),
		producer.WithInstanceName(instance())}, more...)
	made, err := rocketmq.NewProducer(options...)
	if err != nil {
		return nil, err
	}
	return made, made.Start()
}

// content is all of a message that must come back: body, tag, keys, flag and the properties of the user.
func content(message *primitive.Message) string {
	var own []string
	for name, value := range message.GetProperties() {
		if strings.HasPrefix(name, "p-") {
			own = append(own, name+"="+value)
		}
	}
	sort.Strings(own)
	return fmt.Sprintf("%d|%s|%s|%s|%s", message.Flag, message.GetTags(), message.GetKeys(), strings.Join(own, ","), message.Body)
}

func newMessage(topic, tag string, at int, body string) *primitive.Message {
	message := primitive.NewMessage(topic, []byte(body))
	message.WithTag(tag)
	message.WithKeys([]string{"k" + strconv.Itoa(at), "shared"})
	message.WithProperty("p-number", strconv.Itoa(at))
	message.WithProperty("p-text", "Grüße 你好 "+strconv.Itoa(at))
	message.Flag = int32(at)
	return message
}

// send sends that many messages one after another. Answers content by message id.
func send(made rocketmq.Producer, topic, tag string, count int) (map[string]string, error) {
	sent := map[string]string{}
	for at := 0; at < count; at++ {
		message := newMessage(topic, tag, at, fmt.Sprintf("%s %s message %d", topic, tag, at))
		want := content(message)
		result, err := made.SendSync(context.Background(), message)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", at, err)
		}
		if err := equal(primitive.SendOK, result.Status, "status"); err != nil {
			return nil, err
		}
		sent[result.MsgID] = want
	}
	return sent, nil
}

// A member is a push consumer and all that it was given, in order.
type member struct {
	consumer rocketmq.PushConsumer
	lock     sync.Mutex
	got      []*primitive.MessageExt
}

type listener func(context.Context, *primitive.MessageExt) consumer.ConsumeResult

func subscribe(group, topic string, selector consumer.MessageSelector, listen listener, more ...consumer.Option) (*member, error) {
	options := append([]consumer.Option{consumer.WithNsResolver(nameServers()), consumer.WithGroupName(group),
		consumer.WithInstance(instance()), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset)}, more...)
	made, err := rocketmq.NewPushConsumer(options...)
	if err != nil {
		return nil, err
	}
	own := &member{consumer: made}
	err = made.Subscribe(topic, selector, func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			own.lock.Lock()
			own.got = append(own.got, message)
			own.lock.Unlock()
			if listen != nil {
				if result := listen(ctx, message); result != consumer.ConsumeSuccess {
					return result, nil
				}
			}
		}
		return consumer.ConsumeSuccess, nil
	})
	if err != nil {
		return nil, err
	}
	return own, made.Start()
}

func (m *member) messages() []*primitive.MessageExt {
	m.lock.Lock()
	defer m.lock.Unlock()
	return append([]*primitive.MessageExt{}, m.got...)
}

func (m *member) count() int {
	return len(m.messages())
}

// identity is the id that the sender was told.
func identity(message *primitive.MessageExt) string {
	if id := message.GetProperty(primitive.PropertyUniqueClientMessageIdKeyIndex); id != "" {
		return id
	}
	return message.MsgId
}

func contents(messages []*primitive.MessageExt) map[string]string {
	found := map[string]string{}
	for _, message := range messages {
		found[identity(message)] = content(&message.Message)
	}
	return found
}

// dense says what is wrong when a queue's messages came in another order than its offsets, or with holes.
func dense(messages []*primitive.MessageExt) error {
	next := map[int]int64{}
	for _, message := range messages {
		queue := message.Queue.QueueId
		if err := equal(next[queue], message.QueueOffset, fmt.Sprintf("next offset of queue %d", queue)); err != nil {
			return err
		}
		next[queue]++
	}
	return nil
}

func all() consumer.MessageSelector {
	return consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}
}
