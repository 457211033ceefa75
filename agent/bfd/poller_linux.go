package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller lets one goroutine wait for several sockets and an instant at once, and takes no thread for it: the sockets are in an epoll
// instance, and what waits for that one is the poller of the Go runtime.
type poller struct {
	fd     int // of file. Not file.Fd(), which would make it blocking
	file   *os.File
	raw    syscall.RawConn
	poll   func(fd uintptr) bool
	err    error // of poll
	events [16]unix.EpollEvent
	bell   int // an eventfd that ends a wait; -1: none
}

// bellIndex is what stands for the bell among the indexes of sockets.
const bellIndex = -1

func newPoller() (*poller, error) {
	p := &poller{bell: -1}
	if err := p.open(); err != nil {
		p.close()
		return nil, err
	}
	p.poll = func(uintptr) bool {
		var n int
		n, p.err = p.look()
		return n > 0 || p.err != nil
	}
	return p, nil
}

func (p *poller) open() (err error) {
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("open epoll: %w", err)
	}
	if err = unix.SetNonblock(p.fd, true); err != nil { // else os.NewFile would keep it from the runtime's poller
		return errors.Join(fmt.Errorf("open epoll: %w", err), unix.Close(p.fd))
	}
	p.file = os.NewFile(uintptr(p.fd), "bfd epoll")
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return fmt.Errorf("open epoll: %w", err)
	}
	if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("open eventfd: %w", err)
	}
	return p.add(p.bell, bellIndex)
}

// add has waits end when there is something to read from a socket.
func (p *poller) add(fd, index int) error {
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(index)}); err != nil {
		return fmt.Errorf("add to epoll: %w", err)
	}
	return nil
}

// kick ends the wait that is under way, or the next one. It may be called from any goroutine until close.
func (p *poller) kick() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(p.bell, one[:]) // fails only where it rings already
}

// wait returns when there is something to read, at an instant (zero: never), or after a kick.
func (p *poller) wait(until time.Time) error {
	err := p.file.SetReadDeadline(until)
	if err == nil {
		err = p.raw.Read(p.poll)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	return p.err
}

// look returns how many of events are there now.
func (p *poller) look() (int, error) {
	for {
		n, err := unix.EpollWait(p.fd, p.events[:], 0)
		switch {
		case err == nil:
			return n, nil
		case !errors.Is(err, unix.EINTR):
			return 0, fmt.Errorf("epoll: %w", err)
		}
	}
}

// readable calls f with the index of every socket that has something to read. If f returns false it left something there.
func (p *poller) readable(f func(index int) bool) error {
	for more := true; more; {
		n, err := p.look()
		if err != nil {
			return err
		}
		more = n == len(p.events)
		for _, ev := range p.events[:n] {
			if ev.Fd == bellIndex {
				p.silence()
			} else {
				more = f(int(ev.Fd)) && more
			}
		}
	}
	return nil
}

func (p *poller) silence() {
	var count [8]byte
	_, _ = unix.Read(p.bell, count[:]) // fails only where it is silent already
}

func (p *poller) close() {
	if p.file != nil {
		_ = p.file.Close()
	}
	if p.bell >= 0 {
		_ = unix.Close(p.bell)
	}
}
