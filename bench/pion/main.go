// A TURN server made of pion/turn, for the benchmark: one UDP listener, and TCP and TLS where a certificate is given.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/pion/turn/v2"
)

func main() {
	listen := flag.String("listen", "", "address to listen on")
	relay := flag.String("relay", "", "address to relay from")
	port := flag.Int("port", 3478, "UDP and TCP port")
	tlsPort := flag.Int("tls-port", 5349, "TLS port")
	realm := flag.String("realm", "", "realm")
	user := flag.String("user", "", "the one user")
	password := flag.String("password", "", "its password")
	certificate := flag.String("cert", "", "certificate chain")
	key := flag.String("key", "", "its key")
	flag.Parse()

	generator := func() turn.RelayAddressGenerator {
		return &turn.RelayAddressGeneratorStatic{RelayAddress: net.ParseIP(*relay), Address: *relay}
	}
	packets, err := net.ListenPacket("udp4", net.JoinHostPort(*listen, strconv.Itoa(*port)))
	if err != nil {
		log.Fatal(err)
	}
	plain, err := net.Listen("tcp4", net.JoinHostPort(*listen, strconv.Itoa(*port)))
	if err != nil {
		log.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatal(err)
	}
	secure, err := tls.Listen("tcp4", net.JoinHostPort(*listen, strconv.Itoa(*tlsPort)),
		&tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}})
	if err != nil {
		log.Fatal(err)
	}
	authKey := turn.GenerateAuthKey(*user, *realm, *password)
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: *realm,
		AuthHandler: func(name string, _ string, _ net.Addr) ([]byte, bool) {
			return authKey, name == *user
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: packets, RelayAddressGenerator: generator()}},
		ListenerConfigs: []turn.ListenerConfig{
			{Listener: plain, RelayAddressGenerator: generator()},
			{Listener: secure, RelayAddressGenerator: generator()},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	if err := server.Close(); err != nil {
		log.Fatal(err)
	}
}
