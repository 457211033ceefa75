/*
The write protocol of functions/reconcile (docs/write-protocol.md): two handlers run it at the same time on one route table.

	ingest ── news + wake ──▶ wakes ──▶ handler 0, handler 1 ──▶ document of the target (compare-and-swap)
	                            ▲                           └──▶ route table (GET, PUT If-Match) ◀── editor
	                            └── guard, lost, redelivered

The NVAs' documents are one number, newest; it only grows. What the table should hold is its parity, so that contents come back
(A-B-A): a comparison of contents proves nothing about age.

What may go wrong is up to fate, MISHAPS times at any point: a handler dies (its message comes again, or is lost for good), a message is
delivered again although its handler lives on, a lease ends although its run lives on, a PUT is answered by an error although it was
applied, or not applied.

Properties:
  no lost edit     a PUT never undoes what the editor did
  no stale write   a PUT never brings what was decided on older documents than those that the table was known to be right for, unless a run
                   lives on without its lease
  right at rest    when nothing is left to do, the table is as the newest documents say, and holds the edit

Asked for by -D:
  FENCE_STILL         a PUT of unchanged content does not move the ETag
  STRICT              "no stale write" even while a run lives on without its lease
  FRESH_INTENTS       a run looks for other intents again before it confirms that there is nothing to write
  NO_LOSS             no message is lost for good
  LATE                a PUT that its sender has given up may still arrive

Not modelled: waiting for company, throttling, failing reads, more than one document.

Broken on purpose, by -D: see the table in models_test.go.
*/

#ifndef NEWS
#define NEWS 2 /* how often the documents change */
#endif
#ifndef MISHAPS
#define MISHAPS 1
#endif
#define RUNS 12 /* more than there can be; asserted */

/* Messages: NEWS wakes of ingest, one "lost", one guard per run. */
#define LOST NEWS
#define GUARD(id) (NEWS + 1 + (id))
#define MESSAGES (NEWS + 1 + RUNS)
#define NONE 255

#define WANT(v) ((v) & 1)
#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)

byte newest = 1;

/* The route table. */
byte etag = 0;
bit content = WANT(1);
bit edited = 0;
byte right = 1; /* the newest documents that the table was known to be right for */

/* The target's document. Runs are numbered in the order of their intents. */
short intents = 0; /* runs that left one */
short fenced = 0;
byte wakeOf[RUNS];
byte wakes = 0; /* news left to the run in flight */

/* Time: whose lease has not ended. */
short live = 0;

/* The bus. */
int queued = 0;
int again = 0; /* delivered before */
short guards = 0; /* whose id the broker has seen */

/* The handlers. */
byte runs = 0;
byte handling[2] = NONE; /* message */
byte running[2] = NONE;  /* run */
bit killed[2];
bit busy[2];

byte mishaps = MISHAPS;
bit excused = 0; /* the wake of the newest documents was lost */
bit apart = 0;   /* a run lived on without its lease */
bit didEdit = 0;
#ifdef LATE
bit late = 0; /* a PUT is under way that nobody waits for */
byte lateETag, lateFrom;
bit lateOther;
#define IDLE (!late)
#else
#define IDLE 1
#endif

#define QUEUE(m) queued = queued | BIT(m)

proctype ingest() {
	do
	:: newest <= NEWS ->
		newest++;
		QUEUE(newest - 2)
	:: else -> break
	od
}

proctype editor() {
	atomic { edited = 1; didEdit = 1; etag++ }
}

/* PUT is conditional: with another ETag the answer is 412. */
#ifdef NO_IFMATCH
#define MATCHES 1
#else
#define MATCHES (etag == e)
#endif

#define DUE (queued & ~(live << GUARD(0)))      /* a guard is due when its run's lease has ended */
#define LOWEST(set) ((set) & -(set))
#define OLDER (BIT(id) - 1)
#define OTHERS (intents & ~fenced & ~BIT(id))

#ifdef STRICT
#define EXCUSE 0
#else
#define EXCUSE apart
#endif

/* A PUT of what the run read and decided. */
inline put() {
	assert(o == edited);  /* no lost edit */
	assert(v >= right || EXCUSE); /* no stale write */
	content = WANT(v);
	edited = o;
	etag++;
	right = v
}

proctype handler(bit me) {
	byte m, id, e, v, seen, i;
	bit c, o, moved, done, fence, unsure;
	short others;

end:	do
	:: atomic {
		DUE != 0 ->
		m = 0;
		do
		:: HAS(DUE, m) -> break
		:: (DUE >> (m + 1)) != 0 -> m++
		od;
		queued = queued & ~BIT(m);
		handling[me] = m;
		busy[me] = 1
	   }
	   {
		/* 1. claim. */
		atomic {
			others = 0; i = 0; moved = 0; done = 0; unsure = 0;
			if
			:: m > LOST && !HAS(intents, m - GUARD(0)) -> goto completed /* a guard whose run has ended in order */
			:: else
			fi;
#ifndef NO_INTENT
			do
			:: i < runs ->
				if
				:: HAS(live & intents, i) && !(HAS(again, m) && wakeOf[i] == m) -> others = others | BIT(i)
				:: else
				fi;
				i++
			:: else -> break
			od;
#endif
			i = 0;
			if
			:: others == 0 ->
				assert(runs < RUNS);
				id = runs; runs++;
				wakeOf[id] = m;
#ifndef NO_INTENT
				intents = intents | BIT(id);
#endif
				live = live | BIT(id);
				running[me] = id;
				seen = wakes;
				others = OTHERS
			:: else -> /* another run holds it: leave it a note and go */
				do
				:: HAS(others, i) -> break
				:: else -> i++
				od;
#ifndef FOLD_WITHOUT_COUNTER
				wakes++;
#endif
				goto folded
			fi
		};
round:
#ifdef STATE_BEFORE_ETAG
		v = newest;
		atomic { e = etag; c = content; o = edited };
#else
		/* 2. the table */
		atomic { e = etag; c = content; o = edited };
		/* 3. the documents */
		v = newest;
#endif
		/* 4, 5 */
		if
		:: WANT(v) == c ->
#ifndef UNCONFIRMED_NOOP
#ifdef FRESH_INTENTS
			atomic { others = OTHERS; fence = (others != 0 || unsure) };
#else
			fence = (others != 0 || unsure);
#endif
			if
			:: fence ->
				atomic {
					if
					:: !(MATCHES) -> goto round
					:: else
					fi;
					assert(o == edited);
					right = (v > right -> v : right);
					done = 1;
#ifndef FENCE_STILL
					etag++;
					moved = 1
#endif
				}
			:: else ->
				atomic {
					if
					:: etag != e -> goto round
					:: else -> right = (v > right -> v : right)
					fi
				}
			fi
#else
			right = (v > right -> v : right)
#endif
		:: else ->
			atomic {
				if
				:: !(MATCHES) -> goto round
				:: MATCHES -> put(); moved = 1; done = 1
				:: mishaps > 0 && MATCHES -> mishaps--; put(); goto round /* applied, answered by an error */
				:: mishaps > 0 -> mishaps--; goto round                   /* not applied */
#ifdef LATE
				:: mishaps > 0 -> /* given up by the sender, but under way */
					mishaps--;
					late = 1; lateETag = e; lateOther = o; lateFrom = v;
#ifndef NO_FENCE_AFTER_ERROR
					unsure = 1;
#endif
					if
					:: goto round
					:: killed[me] = 1
					fi
#endif
				fi
			}
		fi;
#ifndef NO_SECOND_READ
		/* 6. the documents again */
		if
		:: WANT(newest) != WANT(v) -> goto round
		:: else
		fi;
#endif
		/* 7. the result */
		atomic {
#ifndef NO_INTENT
			if
			:: !HAS(intents, id) -> /* another run took over */
				QUEUE(LOST);
				again = again & ~BIT(LOST);
				goto completed
			:: HAS(intents, id) && wakes != seen ->
				seen = wakes;
				others = OTHERS;
				goto round
			:: else
			fi;
			intents = intents & ~BIT(id);
			if
			:: moved -> intents = intents & ~OLDER
			:: !moved && done -> fenced = fenced | (intents & OLDER)
			:: else
			fi;
			fenced = fenced & intents;
			do
			:: i < runs ->
				if
				:: !HAS(intents, i) -> wakeOf[i] = 0
				:: else
				fi;
				i++
			:: else -> break
			od;
			i = 0;
			live = live & intents;
			if
			:: intents == 0 -> wakes = 0
			:: else
			fi;
#endif
			goto completed
		};
folded:		/* a guard for the end of the holder's lease; the broker keeps one of those with the same id */
		atomic {
			if
#ifndef NO_GUARD
			:: !HAS(guards, i) -> guards = guards | BIT(i); QUEUE(GUARD(i))
#endif
			:: else
			fi
		};
completed:	atomic {
			if
			:: handling[me] != NONE -> again = again & ~BIT(m) /* only fewer states */
			:: else
			fi
		}
	   } unless {
		atomic {
			killed[me] ->
			killed[me] = 0;
			if
			:: handling[me] != NONE -> QUEUE(handling[me]); again = again | BIT(handling[me])
			:: else
			fi
		}
	   };
	   atomic {
		handling[me] = NONE; running[me] = NONE; killed[me] = 0; busy[me] = 0;
		m = 0; id = 0; e = 0; v = 0; seen = 0; i = 0; c = 0; o = 0; moved = 0; done = 0; fence = 0; unsure = 0; others = 0;
		if
		:: IDLE && !busy[1 - me] && intents == 0 && (queued >> GUARD(0)) == 0 -> runs = 0; guards = 0; etag = 0 /* only fewer states */
		:: else
		fi
	   }
	od
}

#define RUNNING(w) (running[w] == NONE -> 0 : BIT(running[w]))
#define DEAD (live & ~RUNNING(0) & ~RUNNING(1))

#define HOLDS(w) (mishaps > 0 && busy[w] && !killed[w] && (handling[w] != NONE || running[w] != NONE))

inline harm(w) {
	if
	:: killed[w] = 1                             /* it dies */
#ifndef NO_LOSS
	:: handling[w] < LOST ->                     /* it dies, and its message is lost */
		excused = excused || handling[w] == NEWS - 1;
		handling[w] = NONE;
		killed[w] = 1
#endif
	:: handling[w] != NONE ->                    /* its message is delivered again, it lives on */
		QUEUE(handling[w]);
		again = again | BIT(handling[w]);
		handling[w] = NONE;
		apart = 1
	:: running[w] != NONE && HAS(live, running[w]) -> /* it oversleeps its lease */
		live = live & ~BIT(running[w]);
		apart = 1
	fi;
	mishaps--
}

/* fate decides what goes wrong. That a lease of a dead run ends is no mishap. */
proctype fate() {
end:	do
	:: atomic { DEAD != 0 -> live = live & ~LOWEST(DEAD) }
#ifdef LATE
	:: atomic {
		late ->
		if
		:: etag == lateETag -> content = WANT(lateFrom); edited = lateOther; etag++
		:: else
		fi;
		late = 0; lateETag = 0; lateFrom = 0; lateOther = 0
	   }
#endif
	:: atomic { HOLDS(0) -> harm(0) }
	:: atomic { HOLDS(1) -> harm(1) }
	od
}

init {
	atomic { run ingest(); run editor(); run handler(0); run handler(1); run fate() };
	timeout ->
	assert(queued == 0 && newest == NEWS + 1);
	assert(edited == didEdit);
	assert(excused || content == WANT(newest)) /* right at rest */
}
