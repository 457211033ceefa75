/*
The dead-man switch of agent/publish/deadman.go and its reader in shared/state.

	agent ── schedule(epoch, beat) ──▶ broker ── fires, at any time while nobody has cancelled it ──▶ receiver
	      ── cancel ────────────────▶                                                                   silent <=> expired >= alive
	      ── event(epoch, beat) ────▶        ── delivered, in any order ───────────────────────────▶

A beat is a switch. Time is absent: a scheduled switch may fire whenever it pleases, as it does when a clock is off or a link stalls. Only the last one of
an agent that lives is held back, because its next one is what this finite model leaves out.

What may go wrong, MISHAPS times at any point: a schedule fails, or is answered by an error although it was done; the same with a cancel and with an event; the
agent dies. It may be started again, once, with a higher epoch.

The receiver keeps two maxima, which do not depend on the order of arrival. So messages arrive at once here; with REORDER they arrive in any order, for many
times the states.

Properties, at rest:
  no false alarm   an agent that lives is not taken for silent
  found dead       an agent that is dead is taken for silent, if a switch was armed when it first spoke in its epoch

Asked for by -D:
  STRICT      found dead in any case, if anybody ever heard of it

Broken on purpose, by -D: see the table in models_test.go.
*/

#define BEATS 3
#ifndef MISHAPS
#define MISHAPS 3
#endif
#ifndef WORDS
#define WORDS 1 /* events besides the first and those that are owed, in an epoch */
#endif

#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)

/* A version is an epoch and a beat, compared in that order; beat 0: no switch is armed. */
#define V(epoch, beat) ((epoch) * (BEATS + 1) + (beat))
#define BEATOF(version) ((version) % (BEATS + 1))

/* The broker: sets of versions. */
short scheduled = 0;
short fired = 0; /* on the way to the receiver, with REORDER */
short spoken = 0;

/* The receiver. */
byte expired = 0;
byte alive = 0;

#ifdef UNCHECKED_EXPIRED
#define REORDER
bit marked = 0; /* what the last message said */
#define NOTE(x) marked = x
#define SILENT marked
#else
#define NOTE(x) skip
#ifdef EPOCH_IGNORED
#define SILENT (expired != 0 && BEATOF(expired) >= BEATOF(alive))
#else
#define SILENT (expired != 0 && expired >= alive)
#endif
#endif

/* The agent. */
byte epoch = 1;
byte armed = 0, orphan = 0, said = 0; /* beats, as in deadman.go */
short cancels = 0;                    /* to be asked for: beats */
bit heard = 0;                        /* the last event was accepted */
bit dead = 0;
bit stopped = 0;   /* nothing of it runs any more */
bit returns = 0;   /* it is dead, and will be started again */
bit unguarded = 0; /* it died before its first switch of this epoch was armed */
byte mishaps = MISHAPS;

#define MAX(a, b) ((a) > (b) -> (a) : (b))

inline speak(v) {
#ifdef REORDER
	spoken = spoken | BIT(v)
#else
	alive = MAX(alive, v)
#endif
}

#ifdef NO_ALIVE_AFTER_FAILED_CANCEL
#define OWED 0
#else
#define OWED (orphan > 0 && said <= orphan && orphan < armed)
#endif
#ifndef SPEAKS_FIRST
#define MAYSPEAK (armed != 0)
#else
#define MAYSPEAK 1
#endif

/* arming schedules the next switch and has the last one cancelled. The last attempt of this finite model succeeds. */
proctype arming() {
	byte beat;

life:	{
		do
		:: beat < BEATS ->
			beat++;
#ifdef CANCEL_FIRST
			if
			:: armed != 0 -> cancels = cancels | BIT(armed); cancels == 0
			:: else
			fi;
#endif
			if
			:: atomic { scheduled = scheduled | BIT(V(epoch, beat)) };
			   atomic {
				if
#ifndef CANCEL_FIRST
				:: armed != 0 -> cancels = cancels | BIT(armed)
#endif
				:: else
				fi;
				armed = beat
			   }
			:: atomic { /* done, answered by an error */
				mishaps > 0 && beat < BEATS -> mishaps--;
				scheduled = scheduled | BIT(V(epoch, beat));
				orphan = MAX(orphan, beat)
			   }
			:: atomic { /* not done, answered by an error that does not say so */
				mishaps > 0 && beat < BEATS -> mishaps--;
				orphan = MAX(orphan, beat)
			   }
			:: atomic { mishaps > 0 && beat < BEATS -> mishaps-- } /* denied */
			fi
		:: else -> break
		od;
end:		false
	} unless { dead };
	atomic { stopped = 1; beat = 0 };
enddead: atomic { !dead -> stopped = 0 };
	goto life
}

proctype cancelling() {
	byte beat;

end:	do
	:: atomic {
		!dead && cancels != 0 ->
		beat = 0;
		do
		:: HAS(cancels, beat) -> break
		:: (cancels >> (beat + 1)) != 0 -> beat++
		od;
		if
		:: HAS(scheduled, V(epoch, beat)) -> scheduled = scheduled & ~BIT(V(epoch, beat))
		:: HAS(scheduled, V(epoch, beat)) && mishaps > 0 -> mishaps--; /* done, answered by an error */
			scheduled = scheduled & ~BIT(V(epoch, beat));
			orphan = MAX(orphan, beat)
		:: mishaps > 0 -> mishaps--; orphan = MAX(orphan, beat)      /* not done */
		:: !HAS(scheduled, V(epoch, beat)) -> orphan = MAX(orphan, beat) /* it has fired */
		fi;
		cancels = cancels & ~BIT(beat);
		beat = 0
	   }
	od
}

/* speaking sends the first event of an epoch, what is owed, and WORDS others; after an error it sends once more. */
proctype speaking() {
	byte words = WORDS;
	byte beat, from;

end:	do
	:: atomic { !dead && MAYSPEAK && (!heard || OWED) -> beat = armed; from = epoch };
	   goto send
	:: atomic { !dead && MAYSPEAK && words > 0 -> words--; beat = armed; from = epoch };
	   goto send
	od;
send:	atomic {
		if
		:: dead || from != epoch -> skip
		:: else ->
			if
			:: speak(V(epoch, beat)); said = MAX(said, beat); heard = 1
			:: mishaps > 0 -> mishaps--; speak(V(epoch, beat)); heard = 0 /* accepted, answered by an error */
			:: mishaps > 0 -> mishaps--; heard = 0                                       /* not accepted */
			fi
		fi;
		beat = 0; from = 0;
		goto end
	}
}

/* fate ends the agent, and starts it again. */
proctype fate() {
end:	do
	:: atomic {
		mishaps > 0 && !dead ->
		mishaps--;
		dead = 1;
		unguarded = (armed == 0);
		if
		:: epoch == 1 -> returns = 1
		:: returns = 0
		fi
	   }
	:: atomic {
		returns && stopped ->
		returns = 0;
		epoch = 2; armed = 0; orphan = 0; said = 0; cancels = 0; heard = 0;
		dead = 0
	   }
	od
}

#define READY(v) (HAS(scheduled, v) && (dead || (v) != V(epoch, BEATS)))

inline fire(v) {
	scheduled = scheduled & ~BIT(v);
#ifdef REORDER
	fired = fired | BIT(v)
#else
	expired = MAX(expired, v)
#endif
}

proctype broker() {
end:	do
	:: atomic { READY(V(1, 1)) -> fire(V(1, 1)) }
	:: atomic { READY(V(1, 2)) -> fire(V(1, 2)) }
	:: atomic { READY(V(1, 3)) -> fire(V(1, 3)) }
	:: atomic { READY(V(2, 1)) -> fire(V(2, 1)) }
	:: atomic { READY(V(2, 2)) -> fire(V(2, 2)) }
	:: atomic { READY(V(2, 3)) -> fire(V(2, 3)) }
	od
}

#ifdef REORDER
/* receiver takes any message that is on the way. */
proctype receiver() {
	byte v;

end:	do
	:: atomic {
		fired != 0 ->
		v = 0;
		do
		:: HAS(fired, v) -> break
		:: (fired >> (v + 1)) != 0 -> v++
		od;
		fired = fired & ~BIT(v);
		expired = MAX(expired, v);
		NOTE(1);
		v = 0
	   }
	:: atomic {
		spoken != 0 ->
		v = 0;
		do
		:: HAS(spoken, v) -> break
		:: (spoken >> (v + 1)) != 0 -> v++
		od;
		spoken = spoken & ~BIT(v);
		alive = MAX(alive, v);
		NOTE(0);
		v = 0
	   }
	od
}
#endif

init {
	atomic {
		run arming(); run cancelling(); run speaking(); run fate(); run broker();
#ifdef REORDER
		run receiver()
#endif
	};
	timeout ->
	assert(fired == 0 && spoken == 0);
	assert(dead || !SILENT); /* no false alarm */
#ifdef STRICT
	assert(!dead || SILENT || (expired == 0 && alive == 0)) /* found dead, if anybody ever heard of it */
#else
	assert(!dead || SILENT || unguarded) /* found dead */
#endif
}
