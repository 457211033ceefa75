package run

import (
	"context"
	"net"
	"os/exec"
	"strings"
	"time"
)

// Systemd is the service manager's side of the process. Source: sd_notify(3), sd_watchdog_enabled(3).
type Systemd struct {
	Socket   string        // NOTIFY_SOCKET: a path, or @name for the abstract namespace; empty: nobody listens
	Watchdog time.Duration // WATCHDOG_USEC: how long the service may be silent; 0: for ever
}

// notify sends one datagram. There is nobody to report a failure to: systemd notices by itself what it does not hear.
func (s Systemd) notify(state string) {
	if s.Socket == "" {
		return
	}
	// Go takes a leading @ for the abstract namespace, as systemd writes it (unix(7)).
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.Socket, Net: "unixgram"})
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte(state))
	_ = conn.Close()
}

// SystemStopping reports whether systemd is shutting the machine down. Where there is no systemd it is not. Source: systemctl(1),
// is-system-running: it prints the state and exits with 1 in any but "running".
func SystemStopping(ctx context.Context) bool {
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output()
	return strings.TrimSpace(string(out)) == "stopping"
}
