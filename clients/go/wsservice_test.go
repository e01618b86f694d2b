package wsservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// connect plays the server by hand: take answers each message of each line, or ends the line with an error.
func connect(t *testing.T, backlog int, take func(ctx context.Context, conn *websocket.Conn, said message) error) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"ws-service.v1.json"}})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		tell(r.Context(), conn, `{"type":"connected","payload":{"device_id":"d1","user_id":"anna","max_message_size":1000}}`)
		for {
			_, data, err := conn.Read(r.Context())
			if err != nil {
				return
			}
			var said message
			if json.Unmarshal(data, &said) != nil || take(r.Context(), conn, said) != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	client, err := Connect(t.Context(), Options{URL: "ws" + strings.TrimPrefix(server.URL, "http"), UserID: "anna", Topics: []string{"conversation"}, Backlog: backlog})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func tell(ctx context.Context, conn *websocket.Conn, text string) error {
	return conn.Write(ctx, websocket.MessageText, []byte(text))
}

func subscribed(ctx context.Context, conn *websocket.Conn) error {
	return tell(ctx, conn, `{"type":"subscribed","reply_to":"~s","payload":{"topics":[],"cursor":"c0"}}`)
}

func event(ctx context.Context, conn *websocket.Conn, seq int) error {
	return tell(ctx, conn, fmt.Sprintf(`{"type":"message.new","topic":"conversation:c1","seq":%d,"payload":{}}`, seq))
}

// [LOG3] Asking for something at each event gets its answer, though more events stand before it than may wait.
func TestRequestWithinEvents(t *testing.T) {
	const events = 200
	client := connect(t, 2, func(ctx context.Context, conn *websocket.Conn, said message) error {
		if said.ID == subscribeID {
			return errors.Join(subscribed(ctx, conn), event(ctx, conn, 1))
		}
		for seq := 2; seq <= events; seq++ {
			if err := event(ctx, conn, seq); err != nil {
				return err
			}
		}
		return tell(ctx, conn, fmt.Sprintf(`{"type":"pong","reply_to":%q,"payload":{}}`, said.ID))
	})
	heard := int64(0)
	for event, err := range client.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type != "message.new" {
			continue
		}
		if heard++; event.Seq != heard {
			t.Fatalf("heard %d after %d", event.Seq, heard-1)
		}
		if heard == events {
			return
		}
		if heard < 5 {
			if _, err := client.Request(t.Context(), "ping", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// [ENV4] What is larger than the service takes is refused here, for it would end each line that it is sent on.
func TestTooLarge(t *testing.T) {
	client := connect(t, 0, func(ctx context.Context, conn *websocket.Conn, said message) error { return subscribed(ctx, conn) })
	_, err := client.Send(t.Context(), Message{ConversationID: "c1", Content: strings.Repeat("a", 1000)})
	var refused *ServerError
	if !errors.As(err, &refused) || refused.Code != "message_too_large" {
		t.Fatal(err)
	}
}

// [CON7] A program that takes its time is not taken for a line that is dead.
func TestSlow(t *testing.T) {
	defer func(every, within time.Duration) { pingEvery, answerWithin = every, within }(pingEvery, answerWithin)
	// An answer has longer than a busy machine needs for it: while the program takes its time there is none.
	pingEvery, answerWithin = 10*time.Millisecond, time.Second
	var lines atomic.Int32
	pings := make(chan struct{}, 100)
	client := connect(t, 2, func(ctx context.Context, conn *websocket.Conn, said message) error {
		switch said.Type {
		case "subscribe":
			lines.Add(1)
			if err := subscribed(ctx, conn); err != nil {
				return err
			}
			for seq := 1; seq <= 10; seq++ {
				if err := event(ctx, conn, seq); err != nil {
					return err
				}
			}
			return nil
		case "ping":
			pings <- struct{}{}
			return tell(ctx, conn, `{"type":"pong","reply_to":"~p","payload":{"cursor":"c1"}}`)
		}
		return nil
	})
	for range 5 {
		<-pings
	}
	var heard int64
	for event, err := range client.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if heard = max(heard, event.Seq); heard == 10 {
			break
		}
	}
	if lines.Load() != 1 {
		t.Fatal(lines.Load())
	}
}

// [LOG2] Where the line breaks before the answer, what may be asked twice is, and of the rest it is said.
func TestBrokenBeforeAnswer(t *testing.T) {
	var offers, sends atomic.Int32
	client := connect(t, 0, func(ctx context.Context, conn *websocket.Conn, said message) error {
		if said.ID == subscribeID {
			return subscribed(ctx, conn)
		}
		if said.Type == "call.offer" && offers.Add(1) == 1 || said.Type == "message.send" && sends.Add(1) == 1 {
			return errors.New("broken")
		}
		return tell(ctx, conn, fmt.Sprintf(`{"type":"ack","reply_to":%q,"payload":{"message_id":"m1","duplicate":true}}`, said.ID))
	})
	if _, err := client.Request(t.Context(), "call.offer", map[string]string{}); !errors.Is(err, ErrUncertain) {
		t.Fatal(err)
	}
	sent, err := client.Send(t.Context(), Message{ConversationID: "c1", Content: "once"})
	if err != nil || !sent.Duplicate || offers.Load() != 1 || sends.Load() != 2 {
		t.Fatal(sent, err, offers.Load(), sends.Load())
	}
}

// [ENV5] A context ends the one call that it was given to; Close ends the rest.
func TestEnds(t *testing.T) {
	client := connect(t, 0, func(ctx context.Context, conn *websocket.Conn, said message) error {
		if said.ID == subscribeID {
			return subscribed(ctx, conn)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Request(ctx, "ping", nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, err := range client.Events(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	client.Close()
	closed := (*ClosedError)(nil)
	if _, err := client.Request(t.Context(), "ping", nil); !errors.As(err, &closed) {
		t.Fatal(err)
	}
}

// [LOG4] After a gap the numbers of the topic count anew, and what this client has made before it is not taken for what has its number now.
func TestGap(t *testing.T) {
	client := connect(t, 0, func(ctx context.Context, conn *websocket.Conn, said message) error {
		if said.ID == subscribeID {
			return errors.Join(event(ctx, conn, 7), subscribed(ctx, conn))
		}
		return errors.Join(
			tell(ctx, conn, fmt.Sprintf(`{"type":"ack","reply_to":%q,"payload":{"topic":"conversation:c1","seq":8,"duplicate":false}}`, said.ID)),
			tell(ctx, conn, `{"type":"subscribed","payload":{"topics":[{"topic":"conversation:c1","seq":2,"recovered":false}],"cursor":"c1"}}`),
			event(ctx, conn, 3), event(ctx, conn, 3), event(ctx, conn, 8),
		)
	})
	if _, err := client.Send(t.Context(), Message{ConversationID: "c1", Content: "lost"}); err != nil {
		t.Fatal(err)
	}
	heard := []string{}
	for event, err := range client.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == "gap" || event.Seq > 0 {
			heard = append(heard, fmt.Sprint(event.Type, event.Seq))
		}
		if event.Seq == 8 {
			break
		}
	}
	if want := []string{"message.new7", "gap0", "message.new3", "message.new8"}; !slices.Equal(heard, want) {
		t.Fatal(heard)
	}
}
