// SPDX-License-Identifier: GPL-2.0
/*
 * Negative controls of the boot harness. Loading this module makes the kernel
 * misbehave in the way that the parameter names; the harness must see it.
 */
#include <linux/bug.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/panic.h>
#include <linux/smp.h>
#include <linux/string.h>

static char *action = "";
module_param(action, charp, 0);
MODULE_PARM_DESC(action, "panic, hang, warn or lockdep");

static DEFINE_MUTEX(lock_a);
static DEFINE_MUTEX(lock_b);

/* Silent, and out of reach of the watchdogs, which live on timer interrupts. */
static void spin_forever(void *unused)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

/* Both orders on one CPU, one after the other: wrong, but never a deadlock. */
static void abba(void)
{
	mutex_lock(&lock_a);
	mutex_lock(&lock_b);
	mutex_unlock(&lock_b);
	mutex_unlock(&lock_a);

	mutex_lock(&lock_b);
	mutex_lock(&lock_a);
	mutex_unlock(&lock_a);
	mutex_unlock(&lock_b);
}

static int __init vmtest_controls_init(void)
{
	if (!strcmp(action, "panic"))
		panic("vmtest control");
	else if (!strcmp(action, "hang"))
		on_each_cpu(spin_forever, NULL, 0);
	else if (!strcmp(action, "warn"))
		WARN(1, "vmtest control\n");
	else if (!strcmp(action, "lockdep"))
		abba();
	else
		return -EINVAL;
	return 0;
}
module_init(vmtest_controls_init);

static void __exit vmtest_controls_exit(void)
{
}
module_exit(vmtest_controls_exit);

MODULE_DESCRIPTION("negative controls of the boot harness");
MODULE_LICENSE("GPL");
