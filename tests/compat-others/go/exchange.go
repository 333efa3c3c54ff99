package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func exchangeChecks() []check {
	return []check{{"transaction", transaction}, {"request-reply", requestReply}}
}

// local ends a transaction as its body says: `commit 3`, `rollback 4`, `ask-commit 5`, `ask-rollback 6`.
type local struct {
	lock  sync.Mutex
	asked map[string]int
}

func (l *local) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	switch strings.Fields(string(message.Body))[0] {
	case "commit":
		return primitive.CommitMessageState
	case "rollback":
		return primitive.RollbackMessageState
	}
	return primitive.UnkonwnState
}

func (l *local) CheckLocalTransaction(message *primitive.MessageExt) primitive.LocalTransactionState {
	l.lock.Lock()
	defer l.lock.Unlock()
	text := string(message.Body)
	if strings.HasPrefix(text, "ask-") { // a slow broker may ask before it has read the end of another
		l.asked[text]++
	}
	if strings.Contains(text, "commit") {
		return primitive.CommitMessageState
	}
	return primitive.RollbackMessageState
}

func transaction() (string, error) {
	ends := &local{asked: map[string]int{}}
	made, err := rocketmq.NewTransactionProducer(ends, producer.WithNsResolver(nameServers()), producer.WithGroupName("go_transaction"),
		producer.WithInstanceName(instance()))
	if err != nil {
		return "", err
	}
	if err := made.Start(); err != nil {
		return "", err
	}
	defer made.Shutdown()
	sent := map[string]string{}
	for at := 0; at < 20; at++ {
		kind := []string{"commit", "rollback", "ask-commit", "ask-rollback"}[at%4]
		message := newMessage("GoTransaction", "T", at, fmt.Sprintf("%s %d", kind, at))
		message.Flag = 0 // 4.9.3 loses the flag of a transaction that it asks for
		want := content(message)
		result, err := made.SendMessageInTransaction(context.Background(), message)
		if err != nil {
			return "", err
		}
		if err := equal(primitive.SendOK, result.Status, "status"); err != nil {
			return "", err
		}
		if strings.Contains(kind, "commit") {
			sent[result.MsgID] = want
		}
	}
	reader, err := subscribe("go_transaction_reader", "GoTransaction", all(), nil)
	if err != nil {
		return "", err
	}
	defer reader.consumer.Shutdown()
	// The client tells the broker that it lives every 30 s, and is asked after that.
	if err := await("10 messages", 75, func() bool { return reader.count() >= 10 }); err != nil {
		return "", fmt.Errorf("%w, got %d", err, reader.count())
	}
	time.Sleep(3 * time.Second)
	if err := equal(10, reader.count(), "deliveries"); err != nil {
		return "", err
	}
	ends.lock.Lock()
	defer ends.lock.Unlock()
	if err := equal(10, len(ends.asked), "transactions asked for"); err != nil {
		return "", err
	}
	return "5 committed, 5 rolled back, 5 and 5 when asked", same(sent, contents(reader.messages()), "GoTransaction")
}

func requestReply() (string, error) {
	replier, err := newProducer("go_replier")
	if err != nil {
		return "", err
	}
	defer replier.Shutdown()
	asker, err := newProducer("go_asker")
	if err != nil {
		return "", err
	}
	defer asker.Shutdown()
	var lock sync.Mutex
	var failed []string
	reader, err := subscribe("go_requests", "GoRequest", all(), func(_ context.Context, message *primitive.MessageExt) consumer.ConsumeResult {
		if message.GetTags() == "Silent" {
			return consumer.ConsumeSuccess
		}
		// This client takes the body that it is given here for properties.
		reply, err := consumer.CreateReplyMessage(message, nil)
		if err == nil {
			reply.Body = []byte("answer to " + string(message.Body))
			_, err = replier.SendSync(context.Background(), reply)
		}
		if err != nil {
			lock.Lock()
			failed = append(failed, err.Error())
			lock.Unlock()
		}
		return consumer.ConsumeSuccess
	})
	if err != nil {
		return "", err
	}
	defer reader.consumer.Shutdown()
	// The client may ask before it has told the broker that it lives; an answer does not find it then.
	err = await("a first answer", 60, func() bool {
		_, err := asker.Request(context.Background(), 2*time.Second, newMessage("GoRequest", "T", 0, "first"))
		return err == nil
	})
	if err != nil {
		return "", err
	}
	time.Sleep(time.Second) // an answer to an earlier one may be under way
	lock.Lock()
	failed = nil
	lock.Unlock()
	for at := 0; at < 10; at++ {
		text := fmt.Sprint("question ", at)
		answer, err := asker.Request(context.Background(), 10*time.Second, newMessage("GoRequest", "T", at, text))
		if err != nil {
			return "", fmt.Errorf("question %d: %w; failed answers: %v", at, err, failed)
		}
		if err := equal("answer to "+text, string(answer.Body), "answer"); err != nil {
			return "", err
		}
	}
	answers := map[string]string{}
	for at := 10; at < 20; at++ {
		text := fmt.Sprint("question ", at)
		// The client calls back twice for each answer.
		err := asker.RequestAsync(context.Background(), 10*time.Second, func(_ context.Context, answer *primitive.Message, err error) {
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				failed = append(failed, err.Error())
				return
			}
			answers[text] = string(answer.Body)
		}, newMessage("GoRequest", "T", at, text))
		if err != nil {
			return "", err
		}
	}
	err = await("10 answers by callback", 20, func() bool {
		lock.Lock()
		defer lock.Unlock()
		return len(answers)+len(failed) >= 10
	})
	if err != nil {
		return "", err
	}
	lock.Lock()
	defer lock.Unlock()
	if err := equal("10 []", fmt.Sprint(len(answers), failed), "answers by callback and failures"); err != nil {
		return "", err
	}
	for text, answer := range answers {
		if err := equal("answer to "+text, answer, "answer"); err != nil {
			return "", err
		}
	}
	if _, err := asker.Request(context.Background(), time.Second, newMessage("GoRequest", "Silent", 20, "no answer")); err == nil {
		return "", fmt.Errorf("expected a time-out of a request that nobody answers")
	}
	return "10 answers waited for, 10 by callback, 1 time-out", nil
}
