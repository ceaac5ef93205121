// Command interop is grpc-go as a client and as a server that a control plane configures.
//
//	interop call TARGET N [--xds-creds] [--no-wait] [--gap-ms G] [--timeout S]
//	interop serve ADDRESS NAME --xds
//
// The first calls /rig.Echo/Say N times, and prints who has answered, as JSON; the second serves it, and prints {"port": N}.
//
// The control plane is that of GRPC_XDS_BOOTSTRAP. The interface is that of RIG's echo.py, so that each can take the place of the other.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
)

// raw passes messages as they are, so that no code has to be generated.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = data
	return nil
}

type answer struct {
	By    string   `json:"by"`
	Echo  string   `json:"echo"`
	Names []string `json:"peer_sans"`
}

func main() {
	var err error
	switch {
	case len(os.Args) >= 4 && os.Args[1] == "call":
		err = call(os.Args[2], os.Args[3], os.Args[4:])
	case len(os.Args) == 5 && os.Args[1] == "serve" && os.Args[4] == "--xds":
		err = serve(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("usage: interop call TARGET N [flags] | serve ADDRESS NAME --xds")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func call(target, count string, arguments []string) error {
	flags := flag.NewFlagSet("call", flag.ExitOnError)
	withCredentials := flags.Bool("xds-creds", false, "use the security of the control plane")
	noWait := flags.Bool("no-wait", false, "fail the first call if there is no connection yet")
	gap := flags.Float64("gap-ms", 0, "milliseconds between calls")
	timeout := flags.Float64("timeout", 15, "seconds of a call")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	own := insecure.NewCredentials()
	if *withCredentials {
		own, err = xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: own})
		if err != nil {
			return err
		}
	}
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(own), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		return err
	}
	defer channel.Close()
	answers, errors := map[string]int{}, map[string]int{}
	var sample *answer
	for i := range n {
		request, response := []byte(fmt.Sprintf("m%d", i)), []byte{}
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(*timeout*float64(time.Second)))
		err := channel.Invoke(ctx, "/rig.Echo/Say", &request, &response, grpc.WaitForReady(i == 0 && !*noWait))
		cancel()
		time.Sleep(time.Duration(*gap * float64(time.Millisecond)))
		if err != nil {
			errors[status.Convert(err).String()]++
			continue
		}
		sample = &answer{}
		if err := json.Unmarshal(response, sample); err != nil {
			return err
		}
		answers[sample.By]++
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"answers": answers, "errors": errors, "sample": sample})
}

func serve(address, name string) error {
	encoding.RegisterCodec(raw{})
	own, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return err
	}
	server, err := xds.NewGRPCServer(grpc.Creds(own))
	if err != nil {
		return err
	}
	say := func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		var request []byte
		if err := decode(&request); err != nil {
			return nil, err
		}
		handler := func(ctx context.Context, _ any) (any, error) {
			response, err := json.Marshal(answer{By: name, Echo: string(request), Names: names(ctx)})
			return &response, err
		}
		if interceptor == nil {
			return handler(ctx, &request)
		}
		return interceptor(ctx, &request, &grpc.UnaryServerInfo{FullMethod: "/rig.Echo/Say"}, handler)
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "rig.Echo", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: say}},
	}, nil)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	go func() {
		// It serves until its parent goes away.
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	return server.Serve(listener)
}

// names are the names in the certificate of the peer.
func names(ctx context.Context) []string {
	found := []string{}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return found
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return found
	}
	for _, uri := range info.State.PeerCertificates[0].URIs {
		found = append(found, uri.String())
	}
	return found
}
