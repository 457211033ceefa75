// What a Service Bus namespace does for Microsoft's own JavaScript client, @azure/service-bus: a second opinion on the emulator, from code that shares
// nothing with the client that Pointsman uses.
//
//   SERVICEBUS_CONNECTION_STRING   the namespace; conformance_test.go declares the queues that it needs, one or two for each test
//
// All tests run at once, each on queues of its own. The output is TAP.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { ServiceBusClient } from "@azure/service-bus";

const connectionString = process.env.SERVICEBUS_CONNECTION_STRING;
const soon = 10_000; // ms within which everything must come that comes at all

// client is a connection of its own. It does not try again: what fails is to be seen.
function client(timeoutInMs = soon) {
  return new ServiceBusClient(connectionString, { retryOptions: { maxRetries: 0, timeoutInMs } });
}

// use gives a test a client and closes it afterwards.
async function use(test, timeoutInMs) {
  const bus = client(timeoutInMs);
  try {
    await test(bus);
  } finally {
    await bus.close();
  }
}

async function send(bus, queue, ...messages) {
  const sender = bus.createSender(queue);
  for (const message of messages) await sender.sendMessages(message);
  await sender.close();
}

// receive gets exactly n messages.
async function receive(receiver, n) {
  const all = [];
  while (all.length < n) {
    const some = await receiver.receiveMessages(n - all.length, { maxWaitTimeInMs: soon });
    assert.notEqual(some.length, 0, `received ${all.length} of ${n} messages`);
    all.push(...some);
  }
  return all;
}

// nothing checks that no message comes.
async function nothing(receiver) {
  assert.deepEqual(bodies(await receiver.receiveMessages(1, { maxWaitTimeInMs: 300 })), []);
}

const bodies = (messages) => messages.map((m) => m.body);
const code = (...codes) => (error) => {
  assert.ok(codes.includes(error.code), `got ${error.code} (${error.message}), want ${codes.join(" or ")}`);
  return true;
};
const numbered = (n, more = {}) => Array.from({ length: n }, (_, i) => ({ body: i, ...more }));
const block = (i) => Buffer.alloc(1000, 128 + (i % 100)); // not JSON: the client would parse that
const inSession = (sessionId, ...list) => list.map((body) => ({ body, sessionId }));

// until polls a condition; what it waits for is done by the service, on its own clock.
async function until(what, condition) {
  for (const end = Date.now() + soon; Date.now() < end; await sleep(20)) if (await condition()) return;
  assert.fail(`${what} did not happen`);
}

const tests = {
  async "send, receive and complete in order"() {
    await use(async (bus) => {
      await send(bus, "order", ...numbered(20));
      const receiver = bus.createReceiver("order");
      const got = await receive(receiver, 20);
      assert.deepEqual(bodies(got), [...Array(20).keys()]);
      for (const [i, m] of got.entries()) {
        assert.equal(m.sequenceNumber.compare(got[0].sequenceNumber), i === 0 ? 0 : 1);
        assert.equal(m.deliveryCount, 0);
        assert.ok(m.enqueuedTimeUtc instanceof Date && m.lockedUntilUtc > new Date());
        await receiver.completeMessage(m);
      }
      assert.deepEqual(await receiver.peekMessages(1), []);
    });
  },

  async "properties of every kind come back"() {
    await use(async (bus) => {
      const sent = {
        body: { nested: [1, "two", null, true] },
        messageId: "m-1", correlationId: "c-1", subject: "s", to: "t", replyTo: "r", contentType: "application/json", timeToLive: 60_000,
        applicationProperties: { text: "ü", number: 42, fraction: 0.5, yes: true },
      };
      await send(bus, "properties", sent);
      const [got] = await receive(bus.createReceiver("properties"), 1);
      for (const key of Object.keys(sent)) assert.deepEqual(got[key], sent[key], key);
    });
  },

  async "receive and delete"() {
    await use(async (bus) => {
      await send(bus, "delete", ...numbered(3));
      const receiver = bus.createReceiver("delete", { receiveMode: "receiveAndDelete" });
      assert.deepEqual(bodies(await receive(receiver, 3)), [0, 1, 2]);
      assert.deepEqual(await receiver.peekMessages(1), []);
    });
  },

  async "abandon counts, changes properties and delivers again"() {
    await use(async (bus) => {
      await send(bus, "abandon", { body: "x", applicationProperties: { kept: 1 } });
      const receiver = bus.createReceiver("abandon");
      await receiver.abandonMessage((await receive(receiver, 1))[0], { added: "later" });
      const [again] = await receive(receiver, 1);
      assert.equal(again.deliveryCount, 1);
      assert.deepEqual(again.applicationProperties, { kept: 1, added: "later" });
    });
  },

  async "too many deliveries end in the dead-letter queue"() {
    await use(async (bus) => {
      await send(bus, "three-deliveries", { body: "x", messageId: "unlucky" });
      const receiver = bus.createReceiver("three-deliveries");
      for (let i = 0; i < 3; i++) await receiver.abandonMessage((await receive(receiver, 1))[0]);
      const [dead] = await receive(bus.createReceiver("three-deliveries", { subQueueType: "deadLetter" }), 1);
      assert.equal(dead.messageId, "unlucky");
      assert.equal(dead.deadLetterReason, "MaxDeliveryCountExceeded");
      assert.equal(dead.deadLetterSource, "three-deliveries");
    });
  },

  async "dead-letter with a reason"() {
    await use(async (bus) => {
      await send(bus, "dead-letter", { body: "x" });
      const receiver = bus.createReceiver("dead-letter");
      const [m] = await receive(receiver, 1);
      await receiver.deadLetterMessage(m, { deadLetterReason: "why", deadLetterErrorDescription: "because", extra: 7 });
      const graves = bus.createReceiver("dead-letter", { subQueueType: "deadLetter" });
      const [dead] = await receive(graves, 1);
      assert.deepEqual([dead.deadLetterReason, dead.deadLetterErrorDescription, dead.applicationProperties.extra], ["why", "because", 7]);
      await graves.completeMessage(dead);
      assert.deepEqual(await graves.peekMessages(1), []);
    });
  },

  async "defer, and receive by number"() {
    await use(async (bus) => {
      await send(bus, "defer", { body: "later" }, { body: "now" });
      const receiver = bus.createReceiver("defer");
      const [m] = await receive(receiver, 1);
      await receiver.deferMessage(m, { reason: "busy" });
      assert.deepEqual((await receiver.peekMessages(2)).map((p) => p.state), ["deferred", "active"]);
      const [back] = await receiver.receiveDeferredMessages(m.sequenceNumber);
      assert.deepEqual([back.body, back.applicationProperties.reason], ["later", "busy"]);
      await receiver.completeMessage(back);
      await assert.rejects(receiver.receiveDeferredMessages(m.sequenceNumber), code("MessageNotFound"));
    });
  },

  async "a batch is one send, and as large as the link allows"() {
    await use(async (bus) => {
      const sender = bus.createSender("batch");
      const batch = await sender.createMessageBatch();
      assert.equal(batch.maxSizeInBytes, 262144);
      let n = 0;
      while (batch.tryAddMessage({ body: block(n) })) n++;
      assert.ok(n > 200, `${n} messages`);
      await sender.sendMessages(batch);
      const got = await receive(bus.createReceiver("batch", { receiveMode: "receiveAndDelete" }), n);
      got.forEach((m, i) => assert.ok(block(i).equals(m.body), `message ${i}`));
    });
  },

  async "a batch with one bad message stores none"() {
    await use(async (bus) => {
      const sender = bus.createSender("batch-atomic");
      await assert.rejects(sender.sendMessages([{ body: 1, sessionId: "s" }, { body: 2 }]), /InvalidOperationError/); // an entity with sessions
      const receiver = await bus.acceptSession("batch-atomic", "s");
      assert.deepEqual(await receiver.peekMessages(5), []);
    });
  },

  async "messages of many frames, both ways"() {
    await use(async (bus) => {
      const body = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
      await send(bus, "large", { body }, { body: "small" }, { body });
      const got = await receive(bus.createReceiver("large"), 3);
      assert.ok(body.equals(got[0].body) && got[1].body === "small" && body.equals(got[2].body));
      await assert.rejects(send(bus, "large", { body: Buffer.alloc(300_000) }), code("MessageSizeExceeded"));
    });
  },

  async "a drained link loses nothing"() {
    await use(async (bus) => {
      const receiver = bus.createReceiver("drain");
      const sender = bus.createSender("drain");
      const got = [];
      for (let i = 0; i < 20; i++) {
        await sender.sendMessages({ body: i });
        got.push(...(await receiver.receiveMessages(5, { maxWaitTimeInMs: 50 + i })));
      }
      got.push(...(got.length < 20 ? await receive(receiver, 20 - got.length) : []));
      assert.deepEqual(bodies(got), [...Array(20).keys()]);
      assert.ok(got.every((m) => m.deliveryCount === 0));
      await nothing(receiver);
      await sender.sendMessages({ body: "after" });
      assert.deepEqual(bodies(await receive(receiver, 1)), ["after"]);
    });
  },

  async "duplicates are accepted and dropped"() {
    await use(async (bus) => {
      const sender = bus.createSender("dedup");
      await sender.sendMessages([{ body: 1, messageId: "a" }, { body: 2, messageId: "a" }, { body: 3, messageId: "b" }]);
      await sender.sendMessages({ body: 4, messageId: "a" });
      const receiver = bus.createReceiver("dedup", { receiveMode: "receiveAndDelete" });
      assert.deepEqual(bodies(await receive(receiver, 2)), [1, 3]);
      await sender.sendMessages({ body: 5, messageId: "b" }); // its first is gone, its id is not
      await sender.scheduleMessages({ body: 6, messageId: "b" }, new Date(Date.now() + 100));
      const [number] = await sender.scheduleMessages({ body: 7, messageId: "c" }, new Date(Date.now() + 3_600_000));
      await sender.sendMessages({ body: 8, messageId: "c" });
      await sender.cancelScheduledMessages(number);
      await sender.sendMessages({ body: 9, messageId: "d" });
      assert.deepEqual(bodies(await receive(receiver, 1)), [9]);
      await nothing(receiver);
    });
  },

  async "duplicates across sessions"() {
    await use(async (bus) => {
      await send(bus, "dedup-sessions", { body: 1, messageId: "a", sessionId: "s" }, { body: 2, messageId: "a", sessionId: "t" });
      const receiver = await bus.acceptNextSession("dedup-sessions");
      assert.equal(receiver.sessionId, "s");
      assert.deepEqual(bodies(await receive(receiver, 1)), [1]);
    });
  },

  async "scheduled: peeked as such"() {
    await use(async (bus) => {
      const sender = bus.createSender("schedule-peek");
      const at = new Date(Date.now() + 3_600_000);
      const [number] = await sender.scheduleMessages([{ body: "by call" }], at);
      await sender.sendMessages({ body: "by property", scheduledEnqueueTimeUtc: at });
      const peeked = await bus.createReceiver("schedule-peek").peekMessages(5);
      assert.deepEqual(peeked.map((p) => [p.body, p.state, p.scheduledEnqueueTimeUtc.getTime()]),
        ["by call", "by property"].map((body) => [body, "scheduled", at.getTime()]));
      assert.ok(peeked[0].sequenceNumber.equals(number));
    });
  },

  async "scheduled: not early, and with a new number"() {
    await use(async (bus) => {
      const sender = bus.createSender("schedule");
      await sender.createMessageBatch(); // connects
      const at = new Date(Date.now() + 4000); // time enough to schedule them all
      const numbers = await sender.scheduleMessages([{ body: 1 }, { body: 2 }], at);
      await sender.sendMessages({ body: 3, scheduledEnqueueTimeUtc: at });
      const got = await receive(bus.createReceiver("schedule"), 3);
      assert.ok(Date.now() >= at.getTime(), "early");
      for (const m of got) assert.ok(m.sequenceNumber.greaterThan(numbers[1]), "the number is the old one");
    });
  },

  async "scheduled: cancelled once"() {
    await use(async (bus) => {
      const sender = bus.createSender("cancel");
      const numbers = await sender.scheduleMessages([{ body: 1 }, { body: 2 }], new Date(Date.now() + 3_600_000));
      await sender.cancelScheduledMessages(numbers[0]);
      await assert.rejects(sender.cancelScheduledMessages(numbers[0]), code("MessageNotFound"));
      assert.deepEqual(bodies(await bus.createReceiver("cancel").peekMessages(5)), [2]);
      await sender.cancelScheduledMessages(numbers[1]);
      assert.deepEqual(await bus.createReceiver("cancel").peekMessages(5), []);
    });
  },

  async "a lock is kept by renewing it"() {
    await use(async (bus) => {
      await send(bus, "short-lock", { body: "x" });
      const receiver = bus.createReceiver("short-lock", { maxAutoLockRenewalDurationInMs: 0 });
      const [m] = await receive(receiver, 1);
      const before = m.lockedUntilUtc;
      await sleep(600);
      const after = await receiver.renewMessageLock(m);
      assert.ok(after > before);
      await sleep(before - Date.now() + 200);
      await receiver.completeMessage(m);
    });
  },

  async "a lock that ran out is lost, and counts"() {
    await use(async (bus) => {
      await send(bus, "lock-lost", { body: "x" });
      const receiver = bus.createReceiver("lock-lost", { maxAutoLockRenewalDurationInMs: 0 });
      const [m] = await receive(receiver, 1);
      await sleep(m.lockedUntilUtc - Date.now() + 200);
      await assert.rejects(receiver.completeMessage(m), code("MessageLockLost"));
      const [again] = await receive(receiver, 1);
      assert.equal(again.deliveryCount, 1);
    });
  },

  async "sessions: accept-next waits for the first message"() {
    await use(async (bus) => {
      const accepted = bus.acceptNextSession("accept-next");
      await sleep(100);
      await send(bus, "accept-next", ...inSession("s", 1));
      const receiver = await accepted;
      assert.equal(receiver.sessionId, "s");
      assert.ok(receiver.sessionLockedUntilUtc > new Date());
      assert.deepEqual(bodies(await receive(receiver, 1)), [1]);
    });
  },

  async "sessions: the oldest first, each to one receiver"() {
    await use(async (bus) => {
      await send(bus, "accept-oldest", ...inSession("a", 1), ...inSession("b", 2), ...inSession("a", 3), ...inSession("c", 4));
      const receivers = [];
      for (let i = 0; i < 3; i++) receivers.push(await bus.acceptNextSession("accept-oldest"));
      assert.deepEqual(receivers.map((r) => r.sessionId), ["a", "b", "c"]);
      assert.deepEqual(bodies(await receive(receivers[0], 2)), [1, 3]);
    });
  },

  async "sessions: none available in time"() {
    await use(async (bus) => {
      await assert.rejects(bus.acceptNextSession("accept-none"), code("ServiceTimeout"));
    }, 2000);
  },

  // The client cannot give up while it waits for a session (7.9.5 does not look at the abort signal then), so that the links are made by hand.
  async "sessions: an accept that is given up loses nothing"() {
    await use(async (bus) => {
      await (await bus.acceptSession("accept-cancelled", "other")).close(); // for the right to listen
      for (let i = 0; i < 3; i++) {
        const session = await bus._connectionContext.connection.createSession();
        const link = session._session.attach_receiver({
          source: { address: "accept-cancelled", filter: { "com.microsoft:session-filter": null } }, rcv_settle_mode: 1, credit_window: 0,
        });
        link.on("receiver_close", () => {});
        await sleep(50);
        link.close();
      }
      await send(bus, "accept-cancelled", ...inSession("s", 1));
      const start = Date.now();
      const [m] = await receive(await bus.acceptNextSession("accept-cancelled"), 1);
      assert.deepEqual([m.body, m.deliveryCount], [1, 0]);
      assert.ok(Date.now() - start < soon / 2, "somebody else had the session");
    });
  },

  async "sessions: one that is held is refused at once"() {
    await use(async (bus) => {
      const holder = await bus.acceptSession("accept-held", "s");
      const start = Date.now();
      await assert.rejects(bus.acceptSession("accept-held", "s"), code("SessionCannotBeLocked"));
      assert.ok(Date.now() - start < soon / 2, "it waited");
      await holder.close();
      assert.equal((await bus.acceptSession("accept-held", "s")).sessionId, "s");
    });
  },

  async "sessions: first in, first out over abandon, close and another connection"() {
    await use(async (bus) => {
      await send(bus, "fifo", ...inSession("s", ...Array(8).keys()));
      const seen = [];
      let receiver = await bus.acceptSession("fifo", "s");
      for (let i = 0; i < 4; i++) {
        const [m] = await receive(receiver, 1);
        if (i === 1) await receiver.abandonMessage(m);
        else if (i === 3) await receiver.close(); // not settled: comes again, not counted
        else { await receiver.completeMessage(m); seen.push(m.body); }
      }
      await use(async (other) => {
        receiver = await other.acceptSession("fifo", "s");
        const rest = await receive(receiver, 6);
        assert.deepEqual([...seen, ...bodies(rest)], [...Array(8).keys()]);
        assert.deepEqual(rest.map((m) => m.deliveryCount), [0, 0, 0, 0, 0, 0]);
      });
    });
  },

  async "sessions: state is set, read and cleared, and outlives its owner"() {
    await use(async (bus) => {
      const first = await bus.acceptSession("state", "s");
      assert.equal(await first.getSessionState(), null);
      await first.setSessionState(Buffer.from("half done"));
      await first.close();
      const second = await bus.acceptSession("state", "s");
      assert.equal(Buffer.from(await second.getSessionState()).toString(), "half done");
      await second.setSessionState(null);
      assert.equal(await second.getSessionState(), null);
    });
  },

  async "sessions: the lock is kept by renewing it"() {
    await use(async (bus) => {
      await send(bus, "session-renew", ...inSession("s", 1));
      const receiver = await bus.acceptSession("session-renew", "s", { maxAutoLockRenewalDurationInMs: 0 });
      const [m] = await receive(receiver, 1);
      const before = receiver.sessionLockedUntilUtc;
      await sleep(600);
      assert.ok((await receiver.renewSessionLock()) > before);
      await sleep(before - Date.now() + 200);
      await receiver.completeMessage(m);
    });
  },

  async "sessions: a lock that ran out ends the receiver and counts"() {
    await use(async (bus) => {
      await send(bus, "session-lost", ...inSession("s", 1));
      const receiver = await bus.acceptSession("session-lost", "s", { maxAutoLockRenewalDurationInMs: 0 });
      const [m] = await receive(receiver, 1);
      await until("the receiver's end", () => receiver.isClosed || receiver._messageSession?.isOpen?.() === false);
      await assert.rejects(receiver.completeMessage(m), code("SessionLockLost"));
      const [again] = await receive(await bus.acceptNextSession("session-lost"), 1);
      assert.equal(again.deliveryCount, 1);
    });
  },

  async "sessions: the dead-letter queue has none"() {
    await use(async (bus) => {
      await send(bus, "session-dead", ...inSession("s", 1));
      const receiver = await bus.acceptSession("session-dead", "s");
      await receiver.deadLetterMessage((await receive(receiver, 1))[0], { deadLetterReason: "r" });
      const [dead] = await receive(bus.createReceiver("session-dead", { subQueueType: "deadLetter" }), 1);
      assert.deepEqual([dead.sessionId, dead.deadLetterReason], ["s", "r"]);
    });
  },

  async "what does not fit is refused"() {
    await use(async (bus) => {
      await assert.rejects(send(bus, "refusals", { body: "no session" }), /InvalidOperationError/);
      await assert.rejects(bus.createReceiver("refusals").receiveMessages(1, { maxWaitTimeInMs: 500 }), /InvalidOperationError/);
      await assert.rejects(bus.acceptNextSession("order"), /InvalidOperationError/);
      await assert.rejects(send(bus, "no-such-queue", { body: 1 }), code("MessagingEntityNotFound"));
    });
    const wrong = new ServiceBusClient(connectionString.replace(/SharedAccessKey=[^;]*/, "SharedAccessKey=wrong"), { retryOptions: { maxRetries: 0 } });
    await assert.rejects(send(wrong, "refusals", { body: 1 }), code("UnauthorizedAccess"));
    await wrong.close();
  },

  async "two subscribers of one connection share the work"() {
    await use(async (bus) => {
      const got = [[], []];
      const subscriptions = got.map((list) => bus.createReceiver("shared").subscribe({
        async processMessage(m) { list.push(m.body); },
        async processError({ error }) { throw error; },
      }, { maxConcurrentCalls: 4 }));
      const sender = bus.createSender("shared");
      await sender.sendMessages(numbered(200));
      await until("all messages", () => got[0].length + got[1].length === 200);
      for (const s of subscriptions) await s.close();
      assert.deepEqual(got.flat().sort((a, b) => a - b), [...Array(200).keys()]);
      assert.ok(got[0].length > 0 && got[1].length > 0, `${got[0].length} and ${got[1].length}`);
    });
  },

  // Two links in one AMQP session share its incoming window, 2048 transfers in rhea. One of them fills it; when it settles, the other must get
  // what waited for it.
  async "a window that opens wakes all links of the session"() {
    await use(async (bus) => {
      for (const queue of ["window-a", "window-b"]) await bus.createReceiver(queue).peekMessages(1); // for the right to listen
      for (let i = 0; i < 3; i++) await send(bus, "window-a", numbered(1000));
      await send(bus, "window-b", { body: "waiting" });
      const connection = bus._connectionContext.connection;
      const session = await connection.createSession();
      const open = async (address, credit, list) => {
        const receiver = await session.createReceiver({
          source: { address }, rcv_settle_mode: 0, autoaccept: false, autosettle: false, credit_window: 0,
          onMessage: ({ delivery }) => list.push(delivery), onError: () => {}, onSettled: () => {},
        });
        receiver.addCredit(credit);
        return receiver;
      };
      const a = [], b = [];
      const first = await open("window-a", 2048, a);
      await until("a full window", () => a.length === 2048);
      await open("window-b", 1, b);
      await sleep(200);
      assert.deepEqual([a.length, b.length], [2048, 0]);
      a.slice(0, 100).forEach((delivery) => delivery.accept());
      await until("the other link's message", () => b.length === 1);
      first.addCredit(1000);
      await until("the rest", () => { a.forEach((d) => d.settled || d.accept()); return a.length === 3000; });
    });
  },
};

// main runs the tests at once and reports them in order.
async function main() {
  assert.ok(connectionString, "SERVICEBUS_CONNECTION_STRING is not set");
  const only = process.argv.slice(2);
  const chosen = Object.entries(tests).filter(([name]) => only.length === 0 || only.some((part) => name.includes(part)));
  // Without this a test that waits for what will never come, on a connection that is gone, ends Node before anything was printed.
  const running = new Set(chosen.map(([name]) => name));
  process.once("beforeExit", () => {
    console.log(`# nothing is left to wait for, still open: ${[...running].join("; ")}`);
    process.exit(1);
  });
  const results = await Promise.all(chosen.map(async ([name, test]) => {
    const start = Date.now();
    const error = await test().then(() => null, (reason) => reason);
    running.delete(name);
    return [name, error, Date.now() - start];
  }));
  console.log(`TAP version 13\n1..${results.length}`);
  let failed = 0;
  for (const [i, [name, error, ms]] of results.entries()) {
    console.log(`${error ? "not ok" : "ok"} ${i + 1} - ${name} # ${ms} ms`);
    if (error) {
      failed++;
      console.log(String(error.stack ?? error).replace(/^/gm, "# "));
    }
  }
  console.log(`# ${results.length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

await main();
