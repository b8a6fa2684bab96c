/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _TMS_FIGURE_H
#define _TMS_FIGURE_H

#include <stdio.h>

/* A line of the report, "# figure: ...". At once, as tests are ended by _exit(). */
#define report(format, ...) do {					\
	printf("# figure: " format "\n", ##__VA_ARGS__);		\
	fflush(stdout);							\
} while (0)

#endif /* _TMS_FIGURE_H */
