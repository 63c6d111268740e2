package join

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// afterInput is how long an answer may still take when the input has ended:
// nobody may be reading any more.
const afterInput = 10 * time.Second

// Socket copies in to a unix socket and what comes from it to out. It returns
// when the other side closes the connection, or soon after in and ctx end. A
// Read of in may still be under way then.
func Socket(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	path := strings.TrimPrefix(socket, "unix://")
	var d net.Dialer
	dialed, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("connect to the admin socket: %w: is the program up, and is --socket where it listens?", err)
	}
	conn := dialed.(*net.UnixConn)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(conn, in) // a closed connection is the other loop's to report
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(afterInput))
	}()
	if _, err := io.Copy(out, conn); err != nil {
		return fmt.Errorf("read from the admin socket %s: %w", path, err)
	}
	return nil
}
