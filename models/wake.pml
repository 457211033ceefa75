/*
The wake protocol of functions/ingest: from an event to a look at every target that it feeds.

	events ──▶ ingest 0, ingest 1 ──▶ document of the NVA (compare-and-swap: facts, revision, outbox flag)
	                  └── wakes (the broker drops an id that it has seen) ──▶ reconcile, once per target

EVENTS events of one NVA, TARGETS targets. Two instances of ingest, both of one instance of reconcile per target; each may die at any point,
CRASHES times in all, and its message comes again. Sending a wake may be answered by an error although the broker has it: then the batch is given back.

Property, at rest: every event is in the document, and every target was looked at with the newest document in hand.

Broken on purpose, by -D: see the table in models_test.go.
*/

#ifndef EVENTS
#define EVENTS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define TARGETS 2
#define ALL ((1 << EVENTS) - 1)
#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)

/* The document of the NVA. */
byte etag = 0;
byte facts = 0;    /* events merged */
byte revision = 0; /* counts the merges that changed something */
bit outbox = 0;

/* The bus. */
byte events = ALL; /* to be delivered */
int wakes = 0;     /* to be delivered: bit (target, id) */
int known = 0;     /* ids that the broker remembers */

/* What reconcile saw last, by target. */
byte looked[TARGETS];

byte crashes = CRASHES;
bit busy[2 + TARGETS];
bit killed[2 + TARGETS];

#define REVISIONS (EVENTS + 2)
#ifdef DEDUP_BY_TARGET
#define ID(target, rev) ((target) * REVISIONS)
#else
#define ID(target, rev) ((target) * REVISIONS + (rev))
#endif

inline send(target, rev) {
	atomic {
		if
		:: !HAS(known, ID(target, rev)) ->
			known = known | BIT(ID(target, rev));
			wakes = wakes | BIT(ID(target, rev))
		:: else
		fi
	}
}

proctype ingest(byte me) {
	byte message, e, f, rev;
	bit flag, changed;

end:	do
	:: atomic {
		events != 0 ->
		message = 0;
		do
		:: HAS(events, message) -> break
		:: (events >> (message + 1)) != 0 -> message++
		od;
		events = events & ~BIT(message);
		busy[me] = 1
	   }
	   {
		skip;
again:		atomic { e = etag; f = facts; rev = revision; flag = outbox };
		changed = !HAS(f, message);
#ifdef WAKE_BEFORE_COMMIT
		send(0, rev + 1);
		send(1, rev + 1);
#endif
		/* 1. merge and save, with the outbox flag set */
		if
		:: changed ->
			f = f | BIT(message); rev++; flag = 1;
			atomic {
				if
				:: etag == e -> facts = f; revision = rev; outbox = flag; etag++; e = etag
				:: else -> goto again
				fi
			}
		:: else
		fi;
#ifdef WAKE_ONLY_IF_CHANGED
		flag = changed;
#endif
#ifdef OUTBOX_CLEARED_FIRST
		if
		:: flag -> atomic {
			if
			:: etag == e -> outbox = 0; etag++; e = etag
			:: else
			fi
		   }
		:: else
		fi;
#endif
#ifndef WAKE_BEFORE_COMMIT
		/* 2. a wake for each target */
		if
		:: flag -> send(0, rev); send(1, rev)
		:: else
		fi;
#endif
		/* 3. clear the flag; if somebody else wrote, that one has seen the flag */
		if
		:: flag -> atomic {
#ifdef BLIND_CLEAR
			facts = f; revision = rev; outbox = 0; etag++
#else
			if
			:: etag == e -> outbox = 0; etag++
			:: else
			fi
#endif
		   }
		:: else
		fi
	   } unless {
		atomic { killed[me] -> events = events | BIT(message) }
	   };
	   atomic { killed[me] = 0; busy[me] = 0; message = 0; e = 0; f = 0; rev = 0; flag = 0; changed = 0 }
	od
}

#define OURS (wakes & (((1 << REVISIONS) - 1) << (target * REVISIONS)))

proctype reconcile(byte target) {
	byte message, seen;
	byte me = 2 + target;

end:	do
	:: atomic {
		OURS != 0 ->
		message = 0;
		do
		:: HAS(OURS, message) -> break
		:: (OURS >> (message + 1)) != 0 -> message++
		od;
		wakes = wakes & ~BIT(message);
		busy[me] = 1
	   }
	   {
		seen = facts;
		looked[target] = seen
	   } unless {
		atomic { killed[me] -> wakes = wakes | BIT(message) }
	   };
	   atomic { killed[me] = 0; busy[me] = 0; message = 0; seen = 0 }
	od
}

/* fate kills. That a send is answered by an error is the same as dying after it: the message comes again. */
proctype fate() {
end:	do
	:: atomic { crashes > 0 && busy[0] && !killed[0] -> crashes--; killed[0] = 1 }
	:: atomic { crashes > 0 && busy[1] && !killed[1] -> crashes--; killed[1] = 1 }
	:: atomic { crashes > 0 && busy[2] && !killed[2] -> crashes--; killed[2] = 1 }
	:: atomic { crashes > 0 && busy[3] && !killed[3] -> crashes--; killed[3] = 1 }
	od
}

init {
	atomic { run ingest(0); run ingest(1); run reconcile(0); run reconcile(1); run fate() };
	timeout ->
	assert(events == 0 && wakes == 0);
	assert(facts == ALL);
	assert(looked[0] == ALL && looked[1] == ALL)
}
