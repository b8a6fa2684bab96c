// SPDX-License-Identifier: GPL-2.0
/*
 * Where pages come from inside pin: not from ZONE_MOVABLE. That zone has to be
 * there, as with movablecore=32M on the kernel command line.
 */
#include <sys/ioctl.h>
#include <unistd.h>

#include "tms_harness.h"

FIXTURE(movable) {
	int fd;
};

FIXTURE_VARIANT(movable) {
	__u32 allocator;
};

FIXTURE_VARIANT_ADD(movable, page) {
	.allocator = TMS_ALLOC_PAGE,
};

FIXTURE_VARIANT_ADD(movable, bulk) {
	.allocator = TMS_ALLOC_BULK,
};

FIXTURE_VARIANT_ADD(movable, contig) {
	.allocator = TMS_ALLOC_CONTIG,
};

FIXTURE_SETUP(movable)
{
	self->fd = open_device(_metadata);
}

FIXTURE_TEARDOWN(movable)
{
	close(self->fd);
}

/*
 * Red if: the page allocator, or alloc_pages_bulk_noprof() for its batch, or
 * alloc_contig_frozen_pages_noprof() does not fold.
 */
TEST_F(movable, pin)
{
	struct tms_alloc a = {
		.request = TMS_REQ_HIGHUSER_MOVABLE,
		.allocator = variant->allocator,
	};

	ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_ALLOC, &a));
	if (!(a.used.any & TMS_GFP_MOVABLE))
		SKIP(return, "no page from ZONE_MOVABLE: boot with movablecore=32M");
	a.scopes = TMS_PIN;
	ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_ALLOC, &a));
	EXPECT_LT(0, a.used.count);
	EXPECT_EQ(0, a.used.any & TMS_GFP_MOVABLE);

	/* and again, with nothing open */
	a.scopes = 0;
	ASSERT_EQ(0, ioctl(self->fd, TMS_IOC_ALLOC, &a));
	EXPECT_EQ(TMS_GFP_MOVABLE, a.used.any & TMS_GFP_MOVABLE);
}

TEST_HARNESS_MAIN
