// The Go client as a program: does what its input says, a line of JSON each, and says what it hears.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"

	wsservice "github.com/ws-service/ws-service/clients/go"
)

type line map[string]any

var saying sync.Mutex

func say(said line) {
	saying.Lock()
	defer saying.Unlock()
	json.NewEncoder(os.Stdout).Encode(said)
}

type command struct {
	N       int
	Send    []string
	Key     string
	Ack     bool
	Request []json.RawMessage
}

func answer(ctx context.Context, client *wsservice.Client, told command) {
	var reply any
	var err error
	switch {
	case told.Send != nil:
		reply, err = client.Send(ctx, wsservice.Message{ConversationID: told.Send[0], Content: told.Send[1], ClientMessageID: told.Key})
	case told.Ack:
		err = client.Ack(ctx)
	default:
		var kind string
		json.Unmarshal(told.Request[0], &kind)
		reply, err = client.Request(ctx, kind, told.Request[1])
	}
	var refused *wsservice.ServerError
	switch {
	case err == nil:
		say(line{"answer": told.N, "payload": reply})
	case errors.As(err, &refused):
		say(line{"answer": told.N, "code": refused.Code, "field": refused.Field})
	default:
		say(line{"answer": told.N, "closed": err.Error()})
	}
}

func obey(ctx context.Context, client *wsservice.Client) {
	commands := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var told command
		if commands.Decode(&told) != nil {
			return
		}
		go answer(ctx, client, told)
	}
}

func play(ctx context.Context, options wsservice.Options) error {
	client, err := wsservice.Connect(ctx, options)
	if err != nil {
		return err
	}
	defer client.Close()
	extensions := []string{}
	if client.Compressed() {
		extensions = append(extensions, "permessage-deflate")
	}
	say(line{"live": true, "extensions": extensions, "device_id": client.DeviceID()})
	go obey(ctx, client)
	for event, err := range client.Events(ctx) {
		if err != nil {
			return err
		}
		said := line{"event": event.Type, "payload": event.Payload, "topic": event.Topic, "cursor": client.Cursor()}
		if event.Seq > 0 {
			said["seq"] = event.Seq
		}
		say(said)
	}
	return nil
}

func tokenFrom(address string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return "", err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		token, err := io.ReadAll(response.Body)
		return string(token), err
	}
}

func main() {
	var told struct {
		URL      string
		UserID   string `json:"user_id"`
		DeviceID string `json:"device_id"`
		Topics   []string
		Since    string
		TokenURL string `json:"token_url"`
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &told); err != nil {
		panic(err)
	}
	options := wsservice.Options{URL: told.URL, UserID: told.UserID, DeviceID: told.DeviceID, Topics: told.Topics, Since: told.Since}
	if told.TokenURL != "" {
		options.Token = tokenFrom(told.TokenURL)
	}
	err := play(context.Background(), options)
	said := line{"closed": err.Error()}
	if closed := (*wsservice.ClosedError)(nil); errors.As(err, &closed) {
		said["code"] = closed.Code
	}
	say(said)
}
