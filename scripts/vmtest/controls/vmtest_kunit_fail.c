// SPDX-License-Identifier: GPL-2.0
/*
 * Negative control of the boot harness: a KUnit suite with one case that
 * passes and one that cannot.
 */
#include <kunit/test.h>
#include <linux/module.h>

static void control_passes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 1, 1);
}

static void control_fails(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 1, 2);
}

static struct kunit_case vmtest_control_cases[] = {
	KUNIT_CASE(control_passes),
	KUNIT_CASE(control_fails),
	{}
};

static struct kunit_suite vmtest_control_suite = {
	.name = "vmtest_control",
	.test_cases = vmtest_control_cases,
};
kunit_test_suite(vmtest_control_suite);

MODULE_DESCRIPTION("negative control of the boot harness: a failing KUnit case");
MODULE_LICENSE("GPL");
