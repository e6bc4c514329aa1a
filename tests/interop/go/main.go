// A node of go-libp2p beside one of ours: it dials, identifies, and joins a topic of the gossip.
//
//	interop -address /ip4/127.0.0.1/tcp/4001/p2p/12D3… -topic t [-secret 64-hex-digits]
//
// Each line of stdin is published. What happens comes as one JSON object a line on stdout; an error
// ends the process with its text on stderr. It ends when stdin does.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// How long the other node may take to be connected and identified.
const patience = 10 * time.Second

func main() {
	address := flag.String("address", "", "multiaddr of the node to dial, with its peer id")
	topic := flag.String("topic", "", "topic to join")
	secret := flag.String("secret", "", "key of the private network, 32 bytes in hex")
	flag.Parse()
	if err := run(*address, *topic, *secret); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, topicName, secret string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	node, err := start(secret)
	if err != nil {
		return err
	}
	defer node.Close()
	gossip, err := pubsub.NewGossipSub(ctx, node)
	if err != nil {
		return err
	}
	topic, err := gossip.Join(topicName)
	if err != nil {
		return err
	}
	subscription, err := topic.Subscribe()
	if err != nil {
		return err
	}
	events, err := topic.EventHandler()
	if err != nil {
		return err
	}
	go tellMembers(ctx, events)
	go tellMessages(ctx, subscription, node.ID())
	if err := connect(ctx, node, address); err != nil {
		return err
	}
	return publishLines(ctx, topic)
}

// TCP, noise and yamux, as ours; with a secret, in the private network of that key alone.
func start(secret string) (host.Host, error) {
	options := []libp2p.Option{
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.UserAgent("exo-interop"),
		libp2p.NoListenAddrs,
	}
	if secret != "" {
		key, err := hex.DecodeString(secret)
		if err != nil {
			return nil, err
		}
		options = append(options, libp2p.PrivateNetwork(key))
	}
	return libp2p.New(options...)
}

// Connects, and tells what the other node says of itself.
func connect(ctx context.Context, node host.Host, address string) error {
	identified, err := node.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	defer identified.Close()
	info, err := peer.AddrInfoFromString(address)
	if err != nil {
		return err
	}
	late, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := node.Connect(late, *info); err != nil {
		return err
	}
	for {
		select {
		case one := <-identified.Out():
			found := one.(event.EvtPeerIdentificationCompleted)
			if found.Peer != info.ID {
				continue
			}
			tell(map[string]any{
				"type": "Identified", "self": node.ID(), "peer": found.Peer,
				"agentVersion": found.AgentVersion, "protocolVersion": found.ProtocolVersion,
				"protocols": found.Protocols, "addresses": found.ListenAddrs,
			})
			return nil
		case <-late.Done():
			return errors.New("the other node was not identified in time")
		}
	}
}

// Tells which nodes are members of the topic: what is published before does not reach them.
func tellMembers(ctx context.Context, events *pubsub.TopicEventHandler) {
	for {
		change, err := events.NextPeerEvent(ctx)
		if err != nil {
			return
		}
		kind := map[pubsub.EventType]string{pubsub.PeerJoin: "Joined", pubsub.PeerLeave: "Left"}
		tell(map[string]any{"type": kind[change.Type], "peer": change.Peer})
	}
}

func tellMessages(ctx context.Context, subscription *pubsub.Subscription, self peer.ID) {
	for {
		message, err := subscription.Next(ctx)
		if err != nil {
			return
		}
		if message.GetFrom() != self {
			tell(map[string]any{"type": "Heard", "from": message.GetFrom(), "text": string(message.Data)})
		}
	}
}

func publishLines(ctx context.Context, topic *pubsub.Topic) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := topic.Publish(ctx, lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

func tell(what map[string]any) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}
