/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How task_struct::memalloc_scope is shared between a task and the interrupts
 * on top of it, for Spin.  check.sh runs it, and knows the -D switches.
 *
 * One CPU runs two tasks, their softirqs, hard interrupts and NMIs; another CPU
 * reads the bytes.  Nothing is counted down: the task, the handlers and the
 * interrupts go on for ever, so the search covers runs of any length.  Each
 * d_step (or atomic, behind a loop, where Spin wants no d_step) is what cannot be
 * interrupted: at most one load or store of the byte by the protocol.  That x86
 * has an OR to memory only takes interleavings away.
 *
 * Whoever executes is named by cpu, and each step waits for its turn.  An
 * interrupt notes whom it has interrupted and hands the CPU back to it.
 *
 * Model                        Kernel
 * ----------------------------------------------------------------------------
 * scopes[t]                    task_struct::memalloc_scope
 * cur                          current
 * irqs                         interrupts enabled on this CPU
 * pending                      local_softirq_pending()
 * bh[t]                        softirq_count() of the task: in the preempt count,
 *                              on PREEMPT_RT task_struct::softirq_disable_cnt
 * no_preempt                   the one that __local_bh_enable_ip() keeps of the
 *                              preempt count while it runs softirqs
 * save(), restore()            memalloc_scope_save(), memalloc_scope_restore()
 * alloc in a task or softirq   current_gfp_context(), memalloc_scope_active()
 * alloc in an interrupt        the same, and its test of HARDIRQ_MASK | NMI_MASK
 * Softirq                      handle_softirqs()
 * Interrupt                    common_interrupt() .. __irq_exit_rcu(), NMIs
 * Task                         any task; with bh, threaded NAPI and the like
 * Ksoftirqd                    run_ksoftirqd(), or any thread that runs softirqs
 *                              with scopes of its own
 * Scheduler                    preempt_schedule(), preempt_schedule_irq()
 * Reader                       task_memalloc_scope(), on another CPU
 *
 * Limits:
 * - two kinds of scope (all are treated alike) and io_flusher; DEPTH open at
 *   once in the task, SDEPTH in a handler; one kind, once, in an interrupt
 * - hard interrupts do not nest, but for NMIs on top of them; NMIs once
 * - memory is sequentially consistent: one CPU sees its own accesses in order,
 *   and the reader only loads a single byte
 * - one CPU: a task that migrates takes its byte along, and the scheduler orders
 *   what it did there before what it does here
 * - PREEMPT_RT without softirq_ctrl.lock (PREEMPT_RT_NEEDS_BH_LOCK=n): with it,
 *   fewer things can happen.  ksoftirqd may run whenever softirqs are pending,
 *   woken or not: in the kernel, fewer things can happen
 * - not here: exec, exit, kworkers, hotplug, which do not touch the byte from
 *   two contexts; whether an allocator asks for the scopes at all; and that the
 *   compiler makes one access of each byte-sized load and store
 */

/* kinds of scope: MEMALLOC_SCOPE_NOFS, MEMALLOC_SCOPE_NORECLAIM, _IO_FLUSHER */
#define A	1
#define B	2
#define FLUSHER	4

#ifndef DEPTH
#define DEPTH	2
#endif
#ifndef SDEPTH
#define SDEPTH	1
#endif

/* Who executes.  Below HARD: what hard interrupts may interrupt. */
#define TASK	0
#define KSOFTD	1
#define SOFT	2		/* SOFT + i: instance i of Softirq */
#define HARD	8
#define NMI	9

#ifdef RT
#define IS_RT	true
#define NSOFT	2		/* one for each task, as they can be preempted */
#else
#define IS_RT	false
#ifdef BORROW_IRQS_ON
#define NSOFT	2		/* they nest while bh[] is not set: once, here */
#else
#define NSOFT	1
#endif
#endif

byte cpu = TASK;
byte cur = 0;
bool irqs = true;
bool pending;
bool no_preempt;
byte bh[2];
byte resume[2] = { TASK, KSOFTD };	/* where a preempted task goes on */
bool busy[NSOFT];
byte ret[NSOFT];			/* whom an instance of Softirq returns to, */
bool ret_irqs[NSOFT];			/* with or without interrupts enabled */

byte scopes[2] = { 0, A };		/* Ksoftirqd has one for all its life */
#ifdef PER_CPU
#define MINE	scopes[0]		/* what if it did not belong to the task? */
#else
#define MINE	scopes[cur]
#endif

/*
 * What the byte should be, never looked at by the protocol itself: own[] what
 * the task has open by its own program order, top[] the same for whichever
 * context of that task is the innermost one.
 */
byte own[2] = { 0, A };
byte top[2] = { 0, A };
byte flusher;

/* The properties.  PROP=n looks at one alone, else all are looked at. */
#define LEAK_IN		1	/* a handler has what it opened itself, nothing else */
#define LEAK_OUT	2	/* a task has nothing that it did not open */
#define LOST		3	/* a task lacks nothing that it has open */
#define HARDIRQ		4	/* no scope applies in a hard interrupt or NMI */
#define AS_FOUND	5	/* which leaves the byte as it found it */
#define CLOSED		6	/* all closed: nothing left but io_flusher */
#define CHILD		7	/* starts with io_flusher or nothing */
#define READER		8	/* sees what the innermost context has open */
#define NEIGHBOURS	9	/* a neighbour of the byte loses no update */
#define HANDLER_EMPTY	10	/* each handler of a run starts with nothing */
#ifndef PROP
#define PROP	0
#endif
#define check(p, c) \
	assert(!(PROP == 0 || PROP == p) || (c))

/*
 * A neighbour that another CPU writes.  As a byte it is a memory location of its
 * own.  As a BITFIELD, both are parts of a word that is loaded and stored whole.
 */
#ifdef NEIGHBOUR
bit neighbour, neighbour_should;
#endif
#ifdef BITFIELD
#define load(x)		x = MINE; word = neighbour
#define store(x)	MINE = x; neighbour = (cur == 0 -> word : neighbour); word = 0
#define WORD		bit word;
#else
#define load(x)		x = MINE
#define store(x)	MINE = x
#define WORD
#endif

/* The scopes that an allocation is subject to. */
#ifdef NO_HARDIRQ_TEST
#define applies		MINE
#else
#define applies		(cpu < HARD -> MINE : 0)
#endif

/* A task at any of its steps, also between load and store, finds what it left. */
inline intact(t)
{
	check(LEAK_OUT, !(MINE & ~own[t]));
	check(LOST, !(own[t] & ~MINE))
}

/* Runs softirqs on the stack of whoever executes now; they return to who. */
#ifdef RT
#define INSTANCE	cur
#else
#ifdef BORROW_IRQS_ON
#define INSTANCE	(!busy[0] -> 0 : 1)
#else
#define INSTANCE	0
#endif
#endif
#ifdef BORROW_IRQS_ON
#define may_invoke	(!busy[INSTANCE])
#else
#define may_invoke	true
#endif
inline invoke(who, with_irqs)
{
	assert(!busy[INSTANCE]);
	ret[INSTANCE] = who;
	ret_irqs[INSTANCE] = with_irqs;
	cpu = SOFT + INSTANCE
}

/*
 * The task.  k[] are the kinds that it has open, oldest first, and c[] the
 * cookies.  Scopes of different kinds may be closed in any order, those of the
 * same kind in the reverse one.
 */
#define task_has(k)	(k[0] | k[1] | k[2] | flusher)

inline task_save(kind)
{
	/* memalloc_scope_save(): READ_ONCE() for the cookie */
	d_step { cpu == TASK && n < DEPTH -> intact(0); old = MINE };
	/* ... the load of the |= */
	d_step { cpu == TASK -> intact(0); load(tmp) };
	/* ... and its store */
	d_step { cpu == TASK -> intact(0);
		store(tmp | kind);
		k[n] = kind; c[n] = ~old & kind; n++;
		own[0] = task_has(k); top[0] = own[0];
		old = 0; tmp = 0 }
}

inline task_restore(i)
{
	/* memalloc_scope_restore(): the load of the &= */
	d_step { cpu == TASK && i < n && k[i] != k[i + 1] && k[i] != k[i + 2] ->
		intact(0); load(tmp) };
	/* ... and its store */
	d_step { cpu == TASK -> intact(0);
		store(tmp & ~c[i]);
		k[i] = k[i + 1]; c[i] = c[i + 1];
		k[i + 1] = k[i + 2]; c[i + 1] = c[i + 2];
		k[i + 2] = 0; c[i + 2] = 0; n--;
		own[0] = task_has(k); top[0] = own[0];
		tmp = 0 }
}

active proctype Task()
{
	byte k[5], c[5], n, old, tmp, child;
	WORD

	do
	:: task_save(A)
	:: task_save(B)
	:: task_restore(0)
#if DEPTH > 1
	:: task_restore(1)
#endif
#if DEPTH > 2
	:: task_restore(2)
#endif
	/* alloc: current_gfp_context(), also with bottom halves disabled */
	:: d_step { cpu == TASK -> check(LEAK_OUT, applies == own[0]) }
	:: d_step { cpu == TASK && n == 0 -> check(CLOSED, MINE == flusher) }

	/* memalloc_set_io_flusher(), from prctl() */
	:: d_step { cpu == TASK && n == 0 && !bh[0] -> intact(0); load(tmp) };
	   d_step { cpu == TASK -> intact(0);
		store(tmp ^ FLUSHER);
		flusher = flusher ^ FLUSHER; own[0] = flusher; top[0] = own[0];
		tmp = 0 }

	/* dup_task_struct() copies, memalloc_scope_fork() masks */
	:: d_step { cpu == TASK && !bh[0] -> child = MINE };
	   if
	   :: d_step { cpu == TASK ->
#ifndef FORK_INHERITS
		child = child & FLUSHER;
#endif
		check(CHILD, child == flusher); child = 0 }
	   :: d_step { cpu == TASK ->	/* PF_KTHREAD */
#ifndef FORK_INHERITS
		child = 0;
#endif
		check(CHILD, child == 0); child = 0 }
	   fi

	/* __local_bh_disable_ip() */
	:: d_step { cpu == TASK && !bh[0] -> bh[0] = 1 }

#ifndef RT
	/* __local_bh_enable_ip(): softirqs may run, preemption may not happen */
	:: d_step { cpu == TASK && bh[0] -> bh[0] = 0; no_preempt = true };
	   if
	   /* do_softirq(), do_softirq_own_stack() */
	   :: d_step { cpu == TASK && pending && may_invoke ->
		irqs = false; invoke(TASK, false) };
	   :: d_step { cpu == TASK && !pending -> irqs = false };
	   fi;
	   /* local_irq_restore(), preempt_count_dec() */
	   d_step { cpu == TASK -> intact(0); irqs = true; no_preempt = false }
#else
	/* the one of PREEMPT_RT: local_irq_save(); the count stays while they run */
	:: d_step { cpu == TASK && bh[0] -> irqs = false };
	   if
	   :: d_step { cpu == TASK && pending -> invoke(TASK, false) }
	   :: d_step { cpu == TASK && !pending }
	   fi;
	   /* __local_bh_enable(), local_irq_restore() */
	   d_step { cpu == TASK -> intact(0); bh[0] = 0; irqs = true }
#endif
	od
}

/* The second task.  Its byte is never empty, so that a leak from it shows. */
active proctype Ksoftirqd()
{
	do
	/* ksoftirqd_run_begin(), handle_softirqs(true) */
	:: d_step { cpu == KSOFTD && pending && may_invoke -> intact(1);
#ifdef RT
		bh[1] = 1;
#endif
		irqs = false; invoke(KSOFTD, false) };
	   /* ksoftirqd_run_end() */
	   d_step { cpu == KSOFTD -> intact(1); bh[1] = 0; irqs = true }
	:: d_step { cpu == KSOFTD -> intact(1) }	/* alloc */
	od
}

/*
 * What handlers do: a run of handle_softirqs() calls any number of them, and
 * memalloc_scope_clear() after each.  left are the kinds that earlier ones of the
 * same run forgot to close, if they are there still.
 */
#define soft_has(s)	(s[0] | s[1] | left)
#define alone		check(LEAK_IN, MINE == soft_has(s))

inline handler_save(kind)
{
	d_step { cpu == me && n < SDEPTH -> alone; old = MINE };
	d_step { cpu == me -> alone; load(tmp) };
	d_step { cpu == me -> alone;
		store(tmp | kind);
		s[n] = kind; c[n] = ~old & kind; n++;
		top[cur] = soft_has(s);
		old = 0; tmp = 0 }
}

inline handler_restore(i)
{
	d_step { cpu == me && i < n && s[i] != s[i + 1] -> alone; load(tmp) };
	d_step { cpu == me -> alone;
		store(tmp & ~c[i]);
		s[i] = s[i + 1]; c[i] = c[i + 1];
		s[i + 1] = 0; c[i + 1] = 0; n--;
		top[cur] = soft_has(s);
		tmp = 0 }
}

inline handlers()
{
	do
	:: handler_save(A)
	:: handler_save(B)
	:: handler_restore(0)
#if SDEPTH > 1
	:: handler_restore(1)
#endif
	/* alloc */
	:: d_step { cpu == me -> alone }
	/* h->action() returns, having closed all or not, and the next one starts */
	:: d_step { cpu == me ->
		left = soft_has(s); s[0] = 0; s[1] = 0; c[0] = 0; c[1] = 0; n = 0;
#ifndef NO_CLEAR_EACH
		MINE = 0; left = 0;
#endif
		top[cur] = left;
		alone;
		check(HANDLER_EMPTY, MINE == 0) }
	/* the last one has returned */
	:: d_step { cpu == me && n == 0 -> skip }; break
	od
}

#ifdef SAVED_PER_CPU
byte saved;		/* what if handle_softirqs() had no variable of its own? */
#endif

proctype Softirq(byte i)
{
	byte s[3], c[3], n, old, tmp, left, under, me;
#ifndef SAVED_PER_CPU
	byte saved;
#endif
	WORD

	me = SOFT + i;
	do
	::
#ifdef BORROW_IRQS_ON
	   d_step { cpu == me -> busy[i] = true; irqs = true };
#endif
	   /* memalloc_scope_borrow(): the load, with interrupts disabled */
	   d_step { cpu == me -> busy[i] = true; load(saved) };
	   /* ... and the store */
	   d_step { cpu == me ->
#ifndef NO_CLEAR
		store(0);
#endif
		under = top[cur]; top[cur] = 0 };
	   /* softirq_handle_begin(), set_softirq_pending(0), local_irq_enable() */
	   d_step { cpu == me -> bh[cur] = 1; pending = false; irqs = true };
	   do
	   :: handlers();
#ifdef RESTORE_EARLY
	      atomic { cpu == me -> MINE = saved };
	      handlers();
#endif
	      /* local_irq_disable() */
	      atomic { cpu == me -> irqs = false };
	      if
	      /* goto restart */
	      :: d_step { cpu == me && pending -> pending = false; irqs = true }
	      /* nothing pending, or left to ksoftirqd */
	      :: d_step { cpu == me -> skip }; break
	      fi
	   od;
#ifndef RT
	   /* softirq_handle_end() */
	   atomic { cpu == me -> bh[cur] = 0 };
#else
	   (cpu == me);
#endif
#ifdef BORROW_IRQS_ON
	   d_step { cpu == me -> irqs = true };
#endif
	   /* memalloc_scope_give_back() */
	   d_step { cpu == me ->
#ifdef MERGE_BACK
		MINE = MINE | saved;
#else
#ifndef RESTORE_EARLY
#ifndef NO_RESTORE
		MINE = saved;
#endif
#endif
#endif
		#ifndef SAVED_PER_CPU
		saved = 0;
#endif
		top[cur] = under; under = 0; left = 0 };
	   d_step { cpu == me ->
		irqs = ret_irqs[i]; cpu = ret[i];
		ret[i] = 0; ret_irqs[i] = 0; busy[i] = false }
	od
}

/* A hard interrupt or an NMI, on top of a task or of a softirq. */
proctype Interrupt(byte me)
{
	byte below, under, old, tmp, kind, cookie;
	bool flag;
	WORD

	do
	/* irq_enter_rcu(): interrupts stay disabled; NMIs do not care */
	:: d_step { (me == NMI -> cpu != NMI : irqs && cpu < HARD) ->
		below = cpu; under = top[cur]; flag = irqs; cpu = me; irqs = false };
	   do
	   /* memalloc_scope_save() and _restore(): in pairs, as nobody borrows here */
	   :: d_step { cpu == me && !kind -> kind = A; old = MINE };
	      d_step { cpu == me -> load(tmp) };
	      d_step { cpu == me ->
		store(tmp | kind);
		cookie = ~old & kind; top[cur] = under | kind; old = 0; tmp = 0 }
#ifndef INTERRUPT_FORGETS
	   :: d_step { cpu == me && kind -> load(tmp) };
	      d_step { cpu == me ->
		store(tmp & ~cookie);
		top[cur] = under; tmp = 0; kind = 0; cookie = 0 }
#endif
	   /*
	    * alloc: __current_gfp_context(), which looks at preempt_count().  What
	    * this very interrupt has opened has no effect either.
	    */
	   :: d_step { cpu == me -> check(HARDIRQ, applies == 0) }
#ifdef INTERRUPT_FORGETS
	   :: d_step { cpu == me -> kind = 0; cookie = 0 }; break
#else
	   :: d_step { cpu == me && !kind -> skip }; break
#endif
	   od;
	   /* A pair leaves no trace. */
	   atomic { cpu == me -> check(AS_FOUND, MINE == under); under = 0 };
	   if
	   /* raise_softirq_irqoff() */
	   :: d_step { cpu == me && me == HARD && !pending -> pending = true }
	   :: d_step { cpu == me -> skip }
	   fi;
	   if
#ifndef RT
	   /* __irq_exit_rcu(): not in_interrupt(), so softirqs run on top of below */
	   :: d_step { cpu == me && me == HARD && pending && !bh[cur] && may_invoke ->
		invoke(below, true); below = 0; flag = 0 }
#endif
	   /* ... or they stay pending: for below, or for ksoftirqd */
	   :: d_step { cpu == me -> irqs = flag; cpu = below; below = 0; flag = 0 }
	   fi
	od
}

/* Preemption: on PREEMPT_RT also of handlers and with bottom halves disabled. */
active proctype Scheduler()
{
	do
	:: d_step { irqs && cpu < HARD && (IS_RT || !bh[cur] && !no_preempt) ->
		resume[cur] = cpu; cur = 1 - cur; cpu = resume[cur]; resume[cur] = 0 }
	od
}

/* Another CPU: looks at any time. */
active proctype Reader()
{
	do
	:: d_step { true -> check(READER, scopes[0] == top[0] && scopes[1] == top[1]) }
	od
}

#ifdef NEIGHBOUR
active proctype Neighbour()
{
#ifdef BITFIELD
	bit n;
	byte word;

	do
	:: d_step { true -> check(NEIGHBOURS, neighbour == neighbour_should);
		n = neighbour; word = scopes[0] };
	   d_step { true ->
		neighbour = 1 - n; scopes[0] = word;
		neighbour_should = 1 - neighbour_should; n = 0; word = 0 }
	od
#else
	do
	:: d_step { true -> check(NEIGHBOURS, neighbour == neighbour_should);
		neighbour = 1 - neighbour; neighbour_should = neighbour }
	od
#endif
}
#endif

#ifdef REMOTE_WRITES
/* Somebody else makes the task an I/O flusher, or not, with a non-atomic access. */
active proctype Writer()
{
	byte tmp;

	do
	:: d_step { true -> tmp = scopes[0] };
	   d_step { true ->
		scopes[0] = tmp ^ FLUSHER; tmp = 0;
		flusher = flusher ^ FLUSHER;
		own[0] = own[0] ^ FLUSHER; top[0] = top[0] ^ FLUSHER }
	od
}
#endif

init
{
	byte i;

	atomic {
		do
		:: i < NSOFT -> run Softirq(i); i++
		:: else -> break
		od;
		run Interrupt(HARD);
#ifndef NO_NMI
		run Interrupt(NMI);
#endif
		i = 0
	}
}
