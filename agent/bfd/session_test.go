package bfd

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// noon is when the tests begin.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const ms = time.Millisecond

func fast() Session {
	return Session{Name: "s", DesiredMinTx: 200 * ms, RequiredMinRx: 200 * ms, DetectMult: 3}
}

func stateOf(t *testing.T, word string) State {
	t.Helper()
	for s := AdminDown; s <= Up; s++ {
		if s.String() == word {
			return s
		}
	}
	t.Fatalf("there is no state %q", word)
	return 0
}

// TestStates is testdata/states.txt, cell by cell.
func TestStates(t *testing.T) {
	text, err := os.ReadFile("testdata/states.txt")
	if err != nil {
		t.Fatal(err)
	}
	var columns []string
	cells := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case columns == nil:
			columns = fields
		default:
			for i, want := range fields[1:] {
				cell(t, stateOf(t, fields[0]), columns[i+1], want)
				cells++
			}
		}
	}
	if cells != 28 {
		t.Errorf("%d cells, want 4 states in 7 columns", cells)
	}
}

// cell puts a session into a state, lets something happen and compares.
func cell(t *testing.T, state State, happens, want string) {
	t.Helper()
	cfg := fast()
	s := newSession(&cfg, 7, noon)
	s.receive(noon, &Packet{State: Up, My: 9, Your: 7, DetectMult: 3, DesiredMinTx: 200 * ms, RequiredMinRx: 200 * ms})
	s.local, s.diag = state, ForwardingReset
	now := noon.Add(100 * ms)
	switch happens {
	case "silence":
		now = noon.Add(time.Hour)
		s.next(now)
	case "disable":
		s.disable(now)
	case "enable":
		s.enable(now)
	default:
		s.receive(now, &Packet{State: stateOf(t, happens), My: 9, Your: 7, DetectMult: 3, DesiredMinTx: 200 * ms, RequiredMinRx: 200 * ms})
	}
	got := s.local.String()
	if s.local != state && s.local != Up && s.diag != ForwardingReset {
		got = fmt.Sprintf("%s/%d", s.local, s.diag)
	}
	if got != want {
		t.Errorf("%s, %s: %s, want %s", state, happens, got, want)
	}
	if s.local == Up && state != Up && s.diag != NoDiagnostic {
		t.Errorf("%s, %s: Up with diagnostic %s", state, happens, s.diag)
	}
}

// upSession returns a session that is Up since now, with a peer that sends every 200 ms; all that it had to say is said.
func upSession(t *testing.T, cfg Session) (*session, Packet) {
	t.Helper()
	s := newSession(&cfg, 7, noon)
	p := Packet{State: Init, My: 9, Your: 7, DetectMult: 3, DesiredMinTx: 200 * ms, RequiredMinRx: 200 * ms}
	s.next(noon)
	s.receive(noon, &p)
	p.State = Up
	s.next(noon)
	p.Final = true
	s.receive(noon, &p)
	p.Final = false
	s.receive(noon, &p)
	for s.next(noon).send {
	}
	if s.local != Up || s.polling || s.said != s.want || s.used != s.want {
		t.Fatalf("%s, said %v, used %v, polling %v", s.local, s.said, s.used, s.polling)
	}
	return &s, p
}

// TestSlowStart: before a session is Up, 1 s is the least that is said and done; the change is told by a Poll Sequence.
func TestSlowStart(t *testing.T) {
	cfg := fast()
	s := newSession(&cfg, 7, noon)
	first := s.next(noon)
	if !first.send || first.packet.String() != "Down x3 my 00000007 tx 1s rx 200ms" {
		t.Fatalf("first: %v %s", first.send, &first.packet)
	}
	wake := s.next(noon).wake
	if gap := wake.Sub(noon); gap < 750*ms || gap > time.Second {
		t.Errorf("the second packet after %s", gap)
	}
	s.receive(noon.Add(10*ms), &Packet{State: Init, My: 9, Your: 7, DetectMult: 3, DesiredMinTx: time.Second, RequiredMinRx: 100 * ms})
	up := s.next(noon.Add(10 * ms))
	if !up.send || up.packet.String() != "Up P x3 my 00000007 your 00000009 tx 200ms rx 200ms" || up.change == nil || up.change.State != Up {
		t.Fatalf("up: %v %s, change %v", up.send, &up.packet, up.change)
	}
	next := s.next(noon.Add(10 * ms))
	if gap := next.wake.Sub(noon.Add(10 * ms)); gap < 150*ms || gap > 200*ms {
		t.Errorf("a shorter interval is not in force at once: %s", gap)
	}
	again := s.next(next.wake)
	if !again.send || !again.packet.Poll {
		t.Errorf("Poll is not repeated until Final: %s", &again.packet)
	}
	s.receive(next.wake, &Packet{State: Up, Final: true, My: 9, Your: 7, DetectMult: 3, DesiredMinTx: 200 * ms, RequiredMinRx: 200 * ms})
	if last := s.next(s.next(next.wake).wake); !last.send || last.packet.Poll {
		t.Errorf("Poll after Final: %v %s", last.send, &last.packet)
	}
}

// TestFinal: a Poll is answered at once, in every state but AdminDown, and the answer does not put off the next periodic packet.
func TestFinal(t *testing.T) {
	s, p := upSession(t, fast())
	due := s.due()
	p.Poll = true
	for i := range 3 {
		now := noon.Add(time.Duration(i+1) * ms)
		s.receive(now, &p)
		out := s.next(now)
		if !out.send || !out.packet.Final || out.packet.Poll {
			t.Fatalf("answer to a Poll: %v %s", out.send, &out.packet)
		}
		if out = s.next(now); out.send {
			t.Fatalf("a second answer: %s", &out.packet)
		}
	}
	if s.due() != due {
		t.Errorf("the periodic packet was put off by %s", s.due().Sub(due))
	}
	s.disable(noon.Add(5 * ms))
	for s.next(noon.Add(5 * ms)).send {
	}
	s.receive(noon.Add(6*ms), &p)
	if out := s.next(noon.Add(6 * ms)); out.send {
		t.Errorf("AdminDown answers: %s", &out.packet)
	}
}

// TestIncreaseWaits: while Up a longer transmit interval, and a shorter Detection Time, are in force when the peer has answered.
// Source: RFC 5880, section 6.8.3.
func TestIncreaseWaits(t *testing.T) {
	s, p := upSession(t, fast())
	s.configure(intervals{tx: 400 * ms, rx: 100 * ms})
	p.DesiredMinTx = 50 * ms
	s.receive(noon.Add(ms), &p)
	out := s.next(noon.Add(ms))
	if !out.send || !out.packet.Poll || out.packet.DesiredMinTx != 400*ms || out.packet.RequiredMinRx != 100*ms {
		t.Fatalf("the change is not told: %v %s", out.send, &out.packet)
	}
	if s.interval() != 200*ms || s.detection() != 600*ms {
		t.Errorf("before Final: sends every %s, detects in %s", s.interval(), s.detection())
	}
	// Another change has to wait: a Final could not be told apart.
	s.configure(intervals{tx: 300 * ms, rx: 150 * ms})
	if out = s.next(noon.Add(2 * ms)); out.send {
		t.Errorf("a second change during the Poll Sequence: %s", &out.packet)
	}
	p.Final = true
	s.receive(noon.Add(3*ms), &p)
	if s.interval() != 400*ms || s.detection() != 300*ms {
		t.Errorf("after Final: sends every %s, detects in %s", s.interval(), s.detection())
	}
	if out = s.next(noon.Add(3 * ms)); out.send {
		t.Errorf("the next Poll Sequence began before a packet without Final came: %s", &out.packet)
	}
	p.Final = false
	s.receive(noon.Add(4*ms), &p)
	out = s.next(noon.Add(4 * ms))
	if !out.send || !out.packet.Poll || out.packet.DesiredMinTx != 300*ms {
		t.Fatalf("the second change is not told: %v %s", out.send, &out.packet)
	}
	if s.interval() != 300*ms || s.detection() != 450*ms {
		t.Errorf("less often to send, and to be sure later, need no answer: every %s, %s", s.interval(), s.detection())
	}
}

// TestCutOffPoll: a Poll Sequence that a change of state makes moot does not hold up the next one.
func TestCutOffPoll(t *testing.T) {
	s, p := upSession(t, fast())
	p.State = Down
	s.receive(noon.Add(ms), &p)
	if out := s.next(noon.Add(ms)); out.packet.State != Down || !out.packet.Poll || out.packet.DesiredMinTx != time.Second {
		t.Fatalf("the slow interval is not asked for: %s", &out.packet)
	}
	p.State = Init
	s.receive(noon.Add(2*ms), &p) // without Final
	if out := s.next(noon.Add(2 * ms)); out.packet.State != Up || !out.packet.Poll || out.packet.DesiredMinTx != 200*ms {
		t.Errorf("the fast interval is not asked for: %s", &out.packet)
	}
}

// TestStaleFinal: a Final that comes before the Poll was sent ends nothing.
func TestStaleFinal(t *testing.T) {
	s, p := upSession(t, fast())
	s.configure(intervals{tx: 400 * ms, rx: 200 * ms})
	s.poll()
	p.Final = true
	s.receive(noon.Add(ms), &p)
	if !s.polling || s.interval() != 200*ms {
		t.Error("a Final without a Poll ended the Poll Sequence")
	}
}

// TestRemoteMinRx: the peer slows down and speeds up what is sent to it, at once; zero is silence, but for what changes.
func TestRemoteMinRx(t *testing.T) {
	s, p := upSession(t, fast())
	at := func(minRx time.Duration) time.Duration {
		p.RequiredMinRx = minRx
		s.receive(noon.Add(100*ms), &p)
		out := s.next(noon.Add(100 * ms))
		if out.send {
			t.Errorf("%s: sent out of turn", minRx)
		}
		return s.due().Sub(s.sent)
	}
	if d := at(2 * time.Second); d < 1500*ms || d > 2*time.Second {
		t.Errorf("2s: %s", d)
	}
	if d := at(200 * ms); d < 150*ms || d > 200*ms {
		t.Errorf("200ms: %s", d)
	}
	p.RequiredMinRx = 0
	s.receive(noon.Add(100*ms), &p)
	if !s.due().IsZero() {
		t.Error("a peer that wants nothing gets something")
	}
	p.State = Down
	s.receive(noon.Add(101*ms), &p)
	if out := s.next(noon.Add(101 * ms)); !out.send || out.packet.State != Down {
		t.Error("a peer that wants nothing periodically is not told of a change")
	}
}

// TestRemoteDemand: a peer in Demand mode gets nothing while both are Up, except a Poll. Source: RFC 5880, section 6.8.7.
func TestRemoteDemand(t *testing.T) {
	s, p := upSession(t, fast())
	p.Demand = true
	s.receive(noon.Add(ms), &p)
	if out := s.next(noon.Add(ms)); out.send || !s.due().IsZero() {
		t.Error("periodic packets go on")
	}
	s.configure(intervals{tx: 300 * ms, rx: 200 * ms})
	if out := s.next(noon.Add(2 * ms)); !out.send || !out.packet.Poll || s.due().IsZero() {
		t.Error("the Poll Sequence does not go on")
	}
}

// TestJitter: every packet between three quarters and the whole of the interval, spread over it; with a multiplier of 1 nine tenths at most.
func TestJitter(t *testing.T) {
	for mult, most := range map[int]float64{1: 0.9, 2: 1, 3: 1, 255: 1} {
		cfg := fast()
		cfg.DetectMult = mult
		low, high := 2.0, 0.0
		for discriminator := range uint32(50) {
			s := newSession(&cfg, discriminator+1, noon)
			for s.count = range 200 {
				f := float64(s.jittered(time.Second)) / float64(time.Second)
				low, high = min(low, f), max(high, f)
			}
		}
		if low < 0.75 || low > 0.76 || high > most || high < most-0.01 {
			t.Errorf("multiplier %d: %.4f to %.4f of the interval", mult, low, high)
		}
	}
}

// TestPassive: says nothing before it is spoken to, nor after the peer is gone.
func TestPassive(t *testing.T) {
	cfg := fast()
	cfg.Passive = true
	s := newSession(&cfg, 7, noon)
	for _, now := range []time.Time{noon, noon.Add(time.Hour)} {
		if out := s.next(now); out.send || !out.wake.IsZero() {
			t.Fatalf("speaks first: %s, wake %s", &out.packet, out.wake)
		}
	}
	now := noon.Add(2 * time.Hour)
	s.receive(now, &Packet{State: Down, My: 9, DetectMult: 3, DesiredMinTx: time.Second, RequiredMinRx: time.Second})
	if out := s.next(now); !out.send || out.packet.State != Init || out.packet.Your != 9 {
		t.Fatalf("does not answer: %v %s", out.send, &out.packet)
	}
	for s.next(now).send {
	}
	if out := s.next(now.Add(3 * time.Second)); out.send || s.local != Down {
		t.Errorf("%s, says %s to nobody", s.local, &out.packet)
	}
}

// TestForgottenMinRx: a peer that wanted nothing, died and came back passive is spoken to.
func TestForgottenMinRx(t *testing.T) {
	s, p := upSession(t, fast())
	p.RequiredMinRx = 0
	s.receive(noon.Add(ms), &p)
	now := noon.Add(time.Minute)
	if out := s.next(now); !out.send || out.packet.State != Down || out.packet.Diag != DetectionTimeExpired || out.packet.Your != 0 {
		t.Fatalf("%v %s", out.send, &out.packet)
	}
	if s.due().IsZero() {
		t.Error("silent for ever")
	}
}

// TestReports: which of the changes of a session are news.
func TestReports(t *testing.T) {
	for name, tt := range map[string]struct {
		does string // states that the peer says, "silence", "disable", "enable"
		want string
	}{
		"never up":                       {"Down silence Down AdminDown", "AdminDown/3"},
		"down all the time":              {"Down silence Down silence", ""},
		"up, silent":                     {"Init silence", "Up Down/1"},
		"up, peer down":                  {"Init Down", "Up Down/3"},
		"up, down, up":                   {"Init Down Init", "Up Down/3 Up"},
		"up, held by the peer":           {"Init AdminDown", "Up AdminDown/3"},
		"held by the peer, then it dies": {"Init AdminDown silence", "Up AdminDown/3"},
		"held by the peer, let go, dies": {"Init AdminDown Down silence", "Up AdminDown/3"},
		"held by the peer, let go, up":   {"Init AdminDown Down Up", "Up AdminDown/3 Up"},
		"dead, then held":                {"Init silence AdminDown", "Up Down/1 AdminDown/1"},
		"held here":                      {"Init disable Up Down silence", "Up AdminDown/7"},
		"held here, let go, dies":        {"Init disable enable Down silence", "Up AdminDown/7"},
		"held here, let go, up":          {"Init disable enable Down Up", "Up AdminDown/7 Up"},
		"said twice":                     {"Init Init Up Up Down Down", "Up Down/3"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := fast()
			s := newSession(&cfg, 7, noon)
			now := noon
			var got []string
			for word := range strings.FieldsSeq(tt.does) {
				now = now.Add(10 * ms)
				switch word {
				case "silence":
					now = now.Add(time.Minute)
				case "disable":
					s.disable(now)
				case "enable":
					s.enable(now)
				default:
					s.receive(now, &Packet{State: stateOf(t, word), My: 9, Your: 7, DetectMult: 3, DesiredMinTx: time.Second, RequiredMinRx: 1})
				}
				if out := s.next(now); out.change != nil {
					line := out.change.State.String()
					if out.change.Diag != NoDiagnostic {
						line += fmt.Sprintf("/%d", out.change.Diag)
					}
					if out.change.At != now {
						t.Errorf("%s at %s, want %s", line, out.change.At, now)
					}
					got = append(got, line)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%s: reported %q, want %q", tt.does, strings.Join(got, " "), tt.want)
			}
		})
	}
}
