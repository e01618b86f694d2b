// Package wsservice is a client of ws-service: it connects, comes back, misses nothing, and hears nothing twice.
// The words and the rules in brackets are those of docs/protocol.md.
package wsservice

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	random "math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// Acked as Options.Since goes on from what this device has acknowledged last [LOG6].
	Acked = "acked"
	// TopicsMost is how many names one subscription has room for [SUB4].
	TopicsMost = 1000

	backoffFirst   = 500 * time.Millisecond
	backoffMost    = 30 * time.Second
	openWithin     = 15 * time.Second
	crowdedFor     = 5 * time.Second
	backlogDefault = 1000
	// refusalsMost counts tokens in a row that are refused before it is given up.
	refusalsMost = 3
	// lateFor is how far a cursor may be behind what was sent before it, at most.
	lateFor    = time.Minute
	comingBack = websocket.StatusCode(4000)

	subscribeID, pingID, authenticateID = "~s", "~p", "~a"
)

var (
	pingEvery    = 20 * time.Second
	answerWithin = 10 * time.Second
)

// ErrUncertain is what becomes of a request that may not be made twice, where the line breaks before its answer.
var ErrUncertain = errors.New("the connection broke: it may have happened or not")

// Options say who connects, and what it follows. URL is needed, and UserID or Token.
type Options struct {
	URL string
	// UserID is who this is, where the server believes it (auth.mode: trusted).
	UserID string
	// Token gives a JWT for each connection, and before the one in use ends [AUTH3]. An error is tried again, like a line.
	Token func(context.Context) (string, error)
	// DeviceID is which device this is; keep it, or let the server make one [CON3].
	DeviceID string
	// Topics are names, whole or short: conversation:c1, or conversation for all; at most TopicsMost.
	Topics []string
	// Filters are those of the short names among Topics: conversation_ids and the like.
	Filters map[string]any
	// Since is where to begin: a cursor that was kept, or Acked; at the head where it is empty.
	Since string
	// Roles are service, admin or both with a comma, where the server believes it.
	Roles string
	// Backlog is how many events wait for Events, at most; 1000 where it is 0. Then nothing more is read until there is room, but for what
	// stands before the answer to a Request.
	Backlog int
	// HTTPClient opens the connections; http.DefaultClient where it is nil.
	HTTPClient *http.Client
	// Logger hears why a line broke, or what Token said; nobody does where it is nil.
	Logger *slog.Logger
}

// Event is a message of the server that answers nothing [ENV2], or the subscribed that answers for Topics. Of the type gap are those of
// this client: of the topics in Payload something is missing for good, so load them anew [LOG4].
type Event struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Payload   json.RawMessage `json:"payload"`
	Timestamp time.Time       `json:"timestamp"`
	// Topic, Seq and Position are there on logged events only.
	Topic    string `json:"topic"`
	Seq      int64  `json:"seq"`
	Position int64  `json:"position"`
}

// Message is what Send takes. Content is anything that becomes JSON; without a ClientMessageID one is made.
type Message struct {
	ConversationID  string `json:"conversation_id"`
	ClientMessageID string `json:"client_message_id"`
	Content         any    `json:"content"`
}

// Sent is where a message has its place [MSG1]. Duplicate: it had it before.
type Sent struct {
	MessageID string    `json:"message_id"`
	Topic     string    `json:"topic"`
	Seq       int64     `json:"seq"`
	Position  int64     `json:"position"`
	CreatedAt time.Time `json:"created_at"`
	Duplicate bool      `json:"duplicate"`
}

// ServerError is the server's answer to a request [ENV4].
type ServerError struct {
	Code, Message, Field string
	Retryable            bool
	// RetryAfter is how long to wait at least, where Retryable.
	RetryAfter time.Duration
}

func (e *ServerError) Error() string { return e.Code + ": " + e.Message }

// ClosedError says that there is no connection, and that it does not come back by itself [ENV5].
type ClosedError struct {
	// Code is the close code, or the HTTP status; 0 where this side has closed.
	Code   int
	Reason string
}

func (e *ClosedError) Error() string { return e.Reason }

// Client is a connection that comes back. Its methods may be called by many at once, but Events by one.
type Client struct {
	options Options
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}

	// mu guards what follows, and changed tells of it.
	mu       sync.Mutex
	changed  *sync.Cond
	line     *line
	end      error
	cause    error
	deviceID string
	userID   string
	cursor   string
	queue    []item
	requests map[string]*request
	numbered int
	// had is up to where the events of a topic are here.
	had map[string]int64
	// own is when this client has made what comes again after coming back [SUB6].
	own       map[place]time.Time
	notBefore time.Time
}

type place struct {
	topic string
	seq   int64
}

// item is an event, or the cursor that speaks for all before it.
type item struct {
	event  Event
	cursor string
	at     time.Time
}

type request struct {
	number     int
	frame      []byte
	repeatable bool
	isSent     bool
	isGivenUp  bool
	answer     chan answer
}

type answer struct {
	payload json.RawMessage
	err     error
}

// line is one connection of those that follow each other.
type line struct {
	conn       *websocket.Conn
	ctx        context.Context
	compressed bool
	heardAt    atomic.Int64
	// isFull: nothing is read until there is room.
	isFull atomic.Bool
	// The rest is guarded by Client.mu.
	isLive   bool
	outgoing []*request
	sizeMost int
}

type message struct {
	Event
	ReplyTo string `json:"reply_to"`
}

// refusal is an HTTP answer in place of a connection [CON1].
type refusal struct {
	status     int
	reason     string
	retryAfter time.Duration
}

func (r *refusal) Error() string { return r.reason }

// Connect returns once the topics are live, or so much was missed that Backlog events wait already. The context ends the waiting, and not the client; Close does.
// The error is a *ClosedError where the server does not want it, or the context's with the last failure.
func Connect(ctx context.Context, options Options) (*Client, error) {
	if len(options.Topics) > TopicsMost {
		return nil, fmt.Errorf("Topics: at most %d names", TopicsMost)
	}
	if _, err := url.Parse(options.URL); err != nil {
		return nil, err
	}
	if _, err := json.Marshal(options.Filters); err != nil {
		return nil, err
	}
	options.Backlog = cmp.Or(options.Backlog, backlogDefault)
	options.Logger = cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	c := &Client{
		options: options, deviceID: options.DeviceID, userID: options.UserID, done: make(chan struct{}),
		requests: map[string]*request{}, had: map[string]int64{}, own: map[place]time.Time{},
	}
	if options.Since != Acked {
		c.cursor = options.Since
	}
	c.changed = sync.NewCond(&c.mu)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go c.run()
	if err := c.awaitLive(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close says goodbye: it closes with 1000, which tells others that this user goes [PRE1].
func (c *Client) Close() error {
	c.stop(&ClosedError{Reason: "closed by this side"})
	c.mu.Lock()
	line := c.line
	c.mu.Unlock()
	if line != nil {
		line.conn.Close(websocket.StatusNormalClosure, "")
	}
	c.cancel()
	<-c.done
	return nil
}

// Events gives what happens, each once and in order, over lines that break; what this client has said itself is not among it. Its
// last pair has the error: the context's, or a *ClosedError.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			event, err := c.next(ctx)
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Request asks, now or once there is a connection, and returns the reply's payload. Without a payload give nil. What may be asked twice is,
// where a line breaks. The error is a *ServerError, a *ClosedError, ErrUncertain, or the context's: it may have happened then.
func (c *Client) Request(ctx context.Context, kind string, payload any) (json.RawMessage, error) {
	encoded := json.RawMessage("{}")
	if payload != nil {
		var err error
		if encoded, err = json.Marshal(payload); err != nil {
			return nil, err
		}
	}
	asked := &request{repeatable: isRepeatable(kind, encoded), answer: make(chan answer, 1)}
	c.mu.Lock()
	if c.end != nil {
		c.mu.Unlock()
		return nil, c.end
	}
	c.numbered++
	asked.number = c.numbered
	id := "r" + strconv.Itoa(asked.number)
	asked.frame = frame(id, kind, encoded)
	c.requests[id] = asked
	if c.line != nil && c.line.isLive {
		c.line.outgoing = append(c.line.outgoing, asked)
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.requests, id)
		asked.isGivenUp = true
		c.mu.Unlock()
	}()
	select {
	case answer := <-asked.answer:
		return answer.payload, answer.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Send sends a message once, however often it takes: what is retryable is waited for, as long as the context lives.
func (c *Client) Send(ctx context.Context, message Message) (Sent, error) {
	message.ClientMessageID = cmp.Or(message.ClientMessageID, rand.Text())
	for {
		var sent Sent
		reply, err := c.Request(ctx, "message.send", message)
		if err == nil {
			return sent, json.Unmarshal(reply, &sent)
		}
		var refused *ServerError
		if !errors.As(err, &refused) || !refused.Retryable {
			return sent, err
		}
		if !sleep(ctx, refused.RetryAfter) {
			return sent, ctx.Err()
		}
	}
}

// Ack says for good that this device has everything that Events has given: Options.Since: Acked goes on from there [LOG6].
func (c *Client) Ack(ctx context.Context) error {
	cursor := c.Cursor()
	if cursor == "" {
		return nil
	}
	_, err := c.Request(ctx, "ack", map[string]string{"cursor": cursor})
	return err
}

// Cursor is up to where Events has given everything; keep it as Options.Since of the next time. Empty where there is none yet.
func (c *Client) Cursor() string { return read(c, func() string { return c.cursor }) }

// DeviceID is which device this is, by now [CON3].
func (c *Client) DeviceID() string { return read(c, func() string { return c.deviceID }) }

// UserID is who this is, by now.
func (c *Client) UserID() string { return read(c, func() string { return c.userID }) }

// Compressed is whether the present connection agreed on permessage-deflate [CON4].
func (c *Client) Compressed() bool {
	return read(c, func() bool { return c.line != nil && c.line.compressed })
}

func read[T any](c *Client, take func() T) T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return take()
}

// run opens one line after the other, until there is to be none.
func (c *Client) run() {
	defer close(c.done)
	defer c.cancel()
	attempt, refusals := 0, 0
	for c.ctx.Err() == nil {
		line, err := c.open()
		if err == nil {
			refusals = 0
			var wasLive bool
			if wasLive, err = c.talk(line); wasLive {
				attempt = 0
			}
		}
		if no := (*refusal)(nil); errors.As(err, &no) && no.status == http.StatusUnauthorized {
			refusals++
		}
		wait, end := c.decide(err, refusals)
		if end != nil {
			c.stop(end)
			return
		}
		c.options.Logger.Info("ws-service: coming back", "error", err)
		c.mu.Lock()
		c.cause = err
		wait = max(wait, time.Until(c.notBefore))
		c.mu.Unlock()
		backoff := min(backoffMost, backoffFirst<<min(attempt, 16))
		attempt++
		sleep(c.ctx, wait+time.Duration(random.Float64()*float64(backoff)))
	}
}

func (c *Client) open() (*line, error) {
	ctx, cancel := context.WithTimeout(c.ctx, openWithin)
	defer cancel()
	header := http.Header{}
	if c.options.Token != nil {
		token, err := c.options.Token(ctx)
		if err != nil {
			return nil, fmt.Errorf("no token: %w", err)
		}
		// In a header, and not in the URL: it stands in no log, and whoever is known may compress.
		header.Set("Authorization", "Bearer "+token)
	}
	conn, response, err := websocket.Dial(ctx, c.address(), &websocket.DialOptions{
		HTTPClient: c.options.HTTPClient, HTTPHeader: header, Subprotocols: []string{"ws-service.v1.json"},
		CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		if response == nil || response.StatusCode < 400 {
			return nil, err
		}
		said, _ := io.ReadAll(response.Body)
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		reason := strings.TrimSpace(fmt.Sprintf("refused with HTTP %d %s", response.StatusCode, said))
		return nil, &refusal{response.StatusCode, reason, time.Duration(seconds) * time.Second}
	}
	// What the server may send is the server's to bound.
	conn.SetReadLimit(-1)
	extensions := response.Header.Get("Sec-WebSocket-Extensions")
	return &line{conn: conn, compressed: strings.Contains(extensions, "permessage-deflate")}, nil
}

func (c *Client) address() string {
	address, _ := url.Parse(c.options.URL)
	query := address.Query()
	c.mu.Lock()
	defer c.mu.Unlock()
	named := map[string]string{"device_id": c.deviceID, "roles": c.options.Roles, "since": c.cursor}
	if c.options.Token == nil {
		named["user_id"] = c.options.UserID
	}
	// The user's own topics go on from there as well [SUB2].
	if c.cursor == "" && c.options.Since == Acked {
		named["since"] = Acked
	}
	for name, value := range named {
		if value != "" {
			query.Set(name, value)
		}
	}
	address.RawQuery = query.Encode()
	return address.String()
}

// talk takes what one line says until its end.
func (c *Client) talk(line *line) (wasLive bool, err error) {
	ctx, cancel := context.WithCancel(c.ctx)
	line.ctx = ctx
	defer context.AfterFunc(ctx, c.wake)()
	c.mu.Lock()
	c.line = line
	c.mu.Unlock()
	defer func() {
		cancel()
		line.conn.CloseNow()
		wasLive = c.lose(line)
	}()
	if len(c.options.Topics) > 0 {
		c.subscribe(line)
	}
	go c.post(line)
	go line.probe()
	for {
		_, data, err := line.conn.Read(ctx)
		if err != nil {
			return false, err
		}
		line.heardAt.Store(time.Now().UnixNano())
		var said message
		if err := json.Unmarshal(data, &said); err != nil {
			line.conn.Close(comingBack, "")
			return false, err
		}
		if err := c.take(line, said); err != nil {
			code := comingBack
			if end := (*ClosedError)(nil); errors.As(err, &end) {
				code = websocket.StatusNormalClosure
			}
			line.conn.Close(code, "")
			return false, err
		}
	}
}

func (c *Client) subscribe(line *line) {
	scope := map[string]any{"topics": c.options.Topics}
	if c.options.Filters != nil {
		scope["filters"] = c.options.Filters
	}
	if cursor := c.Cursor(); cursor != "" {
		scope["since"] = map[string]string{"cursor": cursor}
	} else if c.options.Since == Acked {
		scope["since"] = Acked
	}
	line.write(subscribeID, "subscribe", scope)
}

// post sends the requests of a line that is live, in their order [ENV7].
func (c *Client) post(line *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for line.ctx.Err() == nil && len(line.outgoing) == 0 {
			c.changed.Wait()
		}
		if line.ctx.Err() != nil {
			return
		}
		asked := line.outgoing[0]
		line.outgoing = line.outgoing[1:]
		if asked.isGivenUp || len(asked.answer) > 0 {
			continue
		}
		if line.sizeMost > 0 && len(asked.frame) > line.sizeMost {
			asked.settle(answer{err: &ServerError{Code: "message_too_large", Message: fmt.Sprintf("More than %d bytes.", line.sizeMost)}})
			continue
		}
		asked.isSent = true
		c.mu.Unlock()
		err := line.conn.Write(line.ctx, websocket.MessageText, asked.frame)
		c.mu.Lock()
		if err != nil {
			return // Told by whoever reads.
		}
	}
}

// probe asks for the cursor now and then, and gives up a line that is dead without saying so: with a code, so that nobody sees a goodbye.
func (l *line) probe() {
	for sleep(l.ctx, pingEvery) {
		asked := time.Now().UnixNano()
		l.write(pingID, "ping", struct{}{})
		if sleep(l.ctx, answerWithin) && !l.isFull.Load() && l.heardAt.Load() < asked {
			l.conn.Close(comingBack, "")
		}
	}
}

// write says something of this client's own; that it failed is told by whoever reads.
func (l *line) write(id, kind string, payload any) {
	encoded, err := json.Marshal(payload)
	if err != nil {
		l.conn.CloseNow()
		return
	}
	l.conn.Write(l.ctx, websocket.MessageText, frame(id, kind, encoded))
}

func (c *Client) take(line *line, said message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var note struct {
		DeviceID         string  `json:"device_id"`
		UserID           string  `json:"user_id"`
		MaxMessageSize   int     `json:"max_message_size"`
		ReconnectAfterMs int64   `json:"reconnect_after_ms"`
		Cursor           string  `json:"cursor"`
		Topics           []topic `json:"topics"`
	}
	switch said.Type {
	case "connected", "draining", "subscribed", "pong":
		if err := json.Unmarshal(said.Payload, &note); err != nil {
			return err
		}
	}
	switch said.Type {
	case "connected":
		c.deviceID, c.userID, line.sizeMost = note.DeviceID, note.UserID, note.MaxMessageSize
		if len(c.options.Topics) == 0 {
			c.goLive(line)
		}
	case "draining":
		c.notBefore = time.Now().Add(time.Duration(note.ReconnectAfterMs) * time.Millisecond)
	case "auth.expiring":
		if c.options.Token != nil {
			go c.refresh(line)
		}
	case "subscribed":
		c.takeSubscribed(line, said, note.Topics, note.Cursor)
	case "pong":
		if line.isLive {
			c.push(line, item{cursor: note.Cursor})
		}
	}
	switch said.ReplyTo {
	case "":
		c.takeEvent(line, said.Event)
	case subscribeID:
		if said.Type == "error" {
			return c.takeRefused(line, serverError(said.Payload))
		}
	case authenticateID:
		if said.Type != "auth.success" {
			c.options.Logger.Warn("ws-service: refresh refused", "answer", string(said.Payload))
		}
	default:
		c.takeReply(said)
	}
	return nil
}

type topic struct {
	Topic     string `json:"topic"`
	Seq       int64  `json:"seq"`
	Recovered *bool  `json:"recovered"`
}

func (c *Client) takeSubscribed(line *line, said message, topics []topic, cursor string) {
	var lost []string
	for _, it := range topics {
		if it.Recovered != nil && !*it.Recovered {
			lost = append(lost, it.Topic)
			c.had[it.Topic] = it.Seq
			maps.DeleteFunc(c.own, func(own place, _ time.Time) bool { return own.topic == it.Topic })
		}
	}
	if lost != nil {
		payload, _ := json.Marshal(map[string]any{"topics": lost})
		c.push(line, item{event: Event{Type: "gap", Payload: payload}})
	}
	isAnswer := said.ReplyTo == subscribeID
	if isAnswer {
		c.push(line, item{event: said.Event})
	}
	// While topics are still coming back the new cursor does not speak for all of them.
	if isAnswer || line.isLive && said.ReplyTo == "" {
		c.push(line, item{cursor: cursor})
	}
	if isAnswer {
		c.goLive(line)
	}
}

// takeRefused returns the end where the subscription is refused for good; otherwise it is tried again, with the same cursor.
func (c *Client) takeRefused(line *line, refused *ServerError) error {
	if !refused.Retryable {
		return &ClosedError{Reason: refused.Error()}
	}
	time.AfterFunc(refused.RetryAfter, func() {
		if line.ctx.Err() == nil {
			c.subscribe(line)
		}
	})
	return nil
}

func (c *Client) takeReply(said message) {
	if said.Type == "ack" && len(c.options.Topics) > 0 {
		var made Sent
		if json.Unmarshal(said.Payload, &made) == nil && made.Seq > 0 && !made.Duplicate {
			c.own[place{made.Topic, made.Seq}] = time.Now()
		}
	}
	asked := c.requests[said.ReplyTo]
	if asked == nil {
		return
	}
	if said.Type == "error" {
		asked.settle(answer{err: serverError(said.Payload)})
	} else {
		asked.settle(answer{payload: said.Payload})
	}
}

func (c *Client) takeEvent(line *line, event Event) {
	if event.Seq > 0 {
		if event.Seq <= c.had[event.Topic] {
			return
		}
		c.had[event.Topic] = event.Seq
		if _, isOwn := c.own[place{event.Topic, event.Seq}]; isOwn {
			return
		}
	}
	c.push(line, item{event: event})
}

func (c *Client) goLive(line *line) {
	line.isLive = true
	clear(c.own)
	line.outgoing = slices.SortedFunc(maps.Values(c.requests), func(one, other *request) int { return cmp.Compare(one.number, other.number) })
	c.changed.Broadcast()
}

// push waits for room, but not where somebody waits for an answer: whoever takes events may be just that one.
func (c *Client) push(line *line, it item) {
	for len(c.queue) >= c.options.Backlog && len(c.requests) == 0 && line.ctx.Err() == nil && c.end == nil {
		line.isFull.Store(true)
		c.changed.Wait()
	}
	if line.isFull.Load() {
		// Whatever has come meanwhile is read only now.
		line.heardAt.Store(time.Now().UnixNano())
		line.isFull.Store(false)
	}
	it.at = time.Now()
	if last := len(c.queue) - 1; it.cursor != "" && last >= 0 && c.queue[last].cursor != "" {
		c.queue[last] = it
		return
	}
	c.queue = append(c.queue, it)
	c.changed.Broadcast()
}

func (c *Client) next(ctx context.Context) (Event, error) {
	defer context.AfterFunc(ctx, c.wake)()
	c.mu.Lock()
	defer c.mu.Unlock()
	for ctx.Err() == nil {
		if len(c.queue) == 0 {
			if c.end != nil {
				return Event{}, c.end
			}
			c.changed.Wait()
			continue
		}
		it := c.queue[0]
		c.queue = c.queue[1:]
		c.changed.Broadcast()
		if it.cursor == "" {
			return it.event, nil
		}
		c.cursor = it.cursor
		maps.DeleteFunc(c.own, func(_ place, madeAt time.Time) bool { return madeAt.Before(it.at.Add(-lateFor)) })
	}
	return Event{}, ctx.Err()
}

func (c *Client) awaitLive(ctx context.Context) error {
	defer context.AfterFunc(ctx, c.wake)()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.end == nil && (c.line == nil || !c.line.isLive) && len(c.queue) < c.options.Backlog {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, c.cause)
		}
		c.changed.Wait()
	}
	return c.end
}

// refresh gives the line another token [AUTH3]. A failure is no end: the line lives until its token does, and comes back with another.
func (c *Client) refresh(line *line) {
	for attempt := 0; ; attempt++ {
		token, err := c.options.Token(line.ctx)
		if err == nil {
			line.write(authenticateID, "authenticate", map[string]string{"token": token})
			return
		}
		c.options.Logger.Warn("ws-service: no token", "error", err)
		if !sleep(line.ctx, min(backoffMost, backoffFirst<<min(attempt, 16))) {
			return
		}
	}
}

// decide says what the end of a line, or of a try at one, means: how long to stay away at least, or why for good [CON1] [ENV5].
func (c *Client) decide(err error, refusals int) (time.Duration, error) {
	var end *ClosedError
	if errors.As(err, &end) {
		return 0, end
	}
	hasToken := c.options.Token != nil
	if no := (*refusal)(nil); errors.As(err, &no) {
		switch {
		case no.status == 400, no.status == 403, no.status == 404, no.status == 426, no.status == 401 && (!hasToken || refusals >= refusalsMost):
			return 0, &ClosedError{no.status, no.reason}
		}
		return no.retryAfter, nil
	}
	code := websocket.CloseStatus(err)
	switch {
	case code == comingBack:
		return 0, nil
	// A token that has expired is followed by another one, where there is who gives it [AUTH3].
	case code == websocket.StatusNormalClosure, code >= 4000 && code < 4100, code == 4104 && !hasToken:
		var closed websocket.CloseError
		errors.As(err, &closed)
		return 0, &ClosedError{int(code), strings.TrimSpace(fmt.Sprintf("closed with %d %s", code, closed.Reason))}
	case code == 4103, code == 4105:
		return crowdedFor, nil
	}
	return 0, nil
}

// lose forgets a line, and says so to the requests that may not be made twice.
func (c *Client) lose(line *line) (wasLive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line = nil
	for _, asked := range c.requests {
		if asked.isSent && !asked.repeatable {
			asked.settle(answer{err: ErrUncertain})
		}
		asked.isSent = false
	}
	return line.isLive
}

// stop is the end, the first time: of requests at once, of events once all are given.
func (c *Client) stop(end error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return
	}
	c.end = end
	for _, asked := range c.requests {
		asked.settle(answer{err: end})
	}
	c.changed.Broadcast()
}

func (c *Client) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
}

// settle gives the answer, where none was given before.
func (r *request) settle(answer answer) {
	select {
	case r.answer <- answer:
	default:
	}
}

func frame(id, kind string, payload json.RawMessage) []byte {
	encoded, err := json.Marshal(struct {
		ID      string          `json:"id"`
		Type    string          `json:"type"`
		Payload json.RawMessage `json:"payload"`
	}{id, kind, payload})
	if err != nil {
		panic(err) // Payloads have been encoded before.
	}
	return encoded
}

// isRepeatable is whether the contract makes a second sending harmless [LOG2] [SUB4].
func isRepeatable(kind string, payload json.RawMessage) bool {
	var keys map[string]json.RawMessage
	json.Unmarshal(payload, &keys)
	switch kind {
	case "publish":
		return keys["event_key"] != nil
	case "event.send":
		return keys["client_event_id"] != nil
	}
	return !strings.HasPrefix(kind, "call.") && !strings.HasPrefix(kind, "admin.")
}

func serverError(payload json.RawMessage) *ServerError {
	said := struct {
		Code, Message, Field string
		Retryable            bool
		RetryAfterMs         int64 `json:"retry_after_ms"`
	}{RetryAfterMs: 1000}
	if err := json.Unmarshal(payload, &said); err != nil {
		return &ServerError{Code: "internal", Message: err.Error()}
	}
	return &ServerError{said.Code, said.Message, said.Field, said.Retryable, time.Duration(said.RetryAfterMs) * time.Millisecond}
}

// sleep returns false where the context ended before.
func sleep(ctx context.Context, wait time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}
