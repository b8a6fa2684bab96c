// SPDX-License-Identifier: GPL-2.0
/*
 * A driver for USB mass storage that allocates memory with GFP_KERNEL when its
 * device is reset or resumes. The core of usb-storage does the rest.
 *
 * usb-storage keeps I/O away from a device under reset by a mutex. Nobody else
 * can unlock it, so a task that recursed there would be beyond help; this driver
 * has a gate in its place that somebody else can open.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>
#include <linux/usb.h>
#include <linux/wait.h>
#include <scsi/scsi_device.h>
#include <scsi/scsi_eh.h>

#include "usb.h"
#include "protocol.h"
#include "scsiglue.h"
#include "transport.h"

#include "tmd_internal.h"

struct tmd_usb {
	struct tmd_section section;
	struct scsi_device *sdev;	/* while in a section */
	spinlock_t lock;		/* protects @closed and @busy */
	wait_queue_head_t wait;
	bool closed;
	bool busy;			/* a command is under way */
};

static int tmd_usb_transport(struct scsi_cmnd *srb, struct us_data *us)
{
	struct tmd_usb *tu = us->extra;
	int ret;

	spin_lock_irq(&tu->lock);
	wait_event_lock_irq(tu->wait, !tu->closed, tu->lock);
	tu->busy = true;
	spin_unlock_irq(&tu->lock);

	ret = usb_stor_Bulk_transport(srb, us);

	spin_lock_irq(&tu->lock);
	tu->busy = false;
	spin_unlock_irq(&tu->lock);
	wake_up_all(&tu->wait);
	return ret;
}

static void tmd_gate_close(struct tmd_usb *tu)
{
	spin_lock_irq(&tu->lock);
	tu->closed = true;
	wait_event_lock_irq(tu->wait, !tu->busy, tu->lock);
	spin_unlock_irq(&tu->lock);
}

static void tmd_gate_open(struct tmd_usb *tu)
{
	unsigned long flags;

	spin_lock_irqsave(&tu->lock, flags);
	tu->closed = false;
	spin_unlock_irqrestore(&tu->lock, flags);
	wake_up_all(&tu->wait);
}

static void tmd_usb_help(struct tmd_section *s)
{
	tmd_gate_open(container_of(s, struct tmd_usb, section));
}

static void tmd_usb_enter(struct us_data *us, enum tmd_kind kind)
{
	struct tmd_usb *tu = us->extra;

	tu->sdev = scsi_device_lookup(us_to_host(us), 0, 0, 0);
	tmd_enter(&tu->section, kind, tu->sdev ? tu->sdev->request_queue : NULL);
}

static void tmd_usb_leave(struct us_data *us)
{
	struct tmd_usb *tu = us->extra;

	tmd_leave(&tu->section);
	if (tu->sdev)
		scsi_device_put(tu->sdev);
	tu->sdev = NULL;
}

/* The device answers before and after the port is reset, so it can be helped there. */
static int tmd_usb_pre_reset(struct usb_interface *intf)
{
	struct us_data *us = usb_get_intfdata(intf);
	struct tmd_usb *tu = us->extra;

	tmd_gate_close(tu);
	tmd_usb_enter(us, TMD_RESET);
	if (tmd_allocate(&tu->section))
		tmd_gate_close(tu);
	return 0;
}

static int tmd_usb_post_reset(struct usb_interface *intf)
{
	struct us_data *us = usb_get_intfdata(intf);
	struct Scsi_Host *host = us_to_host(us);
	struct tmd_usb *tu = us->extra;

	scsi_lock(host);
	scsi_report_bus_reset(host, 0);
	scsi_unlock(host);
	tmd_allocate(&tu->section);
	tmd_gate_open(tu);
	tmd_usb_leave(us);
	return 0;
}

/*
 * Nothing can help a bio that recurses here, as the SCSI device is suspended, too.
 * So what is taken away from resets stays in place.
 */
static void tmd_usb_section(struct us_data *us, enum tmd_kind kind)
{
	struct tmd_usb *tu = us->extra;

	tmd_usb_enter(us, kind);
	if (!tmd_unprotected(TMD_NO_SCOPE))
		tmd_allocate(&tu->section);
	tmd_usb_leave(us);
}

static int tmd_usb_suspend(struct usb_interface *intf, pm_message_t message)
{
	tmd_usb_section(usb_get_intfdata(intf), TMD_USB_SUSPEND);
	return usb_stor_suspend(intf, message);
}

static int tmd_usb_resume(struct usb_interface *intf)
{
	tmd_usb_section(usb_get_intfdata(intf), TMD_USB_RESUME);
	return usb_stor_resume(intf);
}

static void tmd_usb_free(void *extra)
{
	struct tmd_usb *tu = extra;

	tmd_section_remove(&tu->section);
}

/* Bulk-only transport, SCSI commands */
static const struct usb_device_id tmd_usb_ids[] = {
	{ USB_INTERFACE_INFO(USB_CLASS_MASS_STORAGE, USB_SC_SCSI, USB_PR_BULK) },
	{ }
};

static const struct us_unusual_dev tmd_unusual = {
	.useProtocol = USB_SC_DEVICE,
	.useTransport = USB_PR_DEVICE,
};

static struct scsi_host_template tmd_host_template;

static int tmd_usb_probe(struct usb_interface *intf, const struct usb_device_id *id)
{
	struct tmd_usb *tu;
	struct us_data *us;
	int err;

	tu = kzalloc_obj(*tu);
	if (!tu)
		return -ENOMEM;
	spin_lock_init(&tu->lock);
	init_waitqueue_head(&tu->wait);
	tu->section.help = tmd_usb_help;
	err = tmd_section_add(&tu->section);
	if (err) {
		kfree(tu);
		return err;
	}
	err = usb_stor_probe1(&us, intf, id, &tmd_unusual, &tmd_host_template);
	if (err) {
		tmd_section_remove(&tu->section);
		kfree(tu);
		return err;
	}
	/* From here on, usb-storage calls the destructor, and then frees it. */
	us->extra = tu;
	us->extra_destructor = tmd_usb_free;
	us->transport_name = "bulk with a gate";
	us->transport = tmd_usb_transport;
	us->transport_reset = usb_stor_Bulk_reset;
	return usb_stor_probe2(us);
}

static void tmd_usb_disconnect(struct usb_interface *intf)
{
	struct us_data *us = usb_get_intfdata(intf);

	tmd_gate_open(us->extra);
	usb_stor_disconnect(intf);
}

static struct usb_driver tmd_usb_driver = {
	.name = TMD_USB_DRIVER,
	.probe = tmd_usb_probe,
	.disconnect = tmd_usb_disconnect,
	.suspend = pm_ptr(tmd_usb_suspend),
	.resume = pm_ptr(tmd_usb_resume),
	.reset_resume = usb_stor_reset_resume,
	.pre_reset = tmd_usb_pre_reset,
	.post_reset = tmd_usb_post_reset,
	.id_table = tmd_usb_ids,
	.supports_autosuspend = 1,
	.soft_unbind = 1,
};

int tmd_usb_init(void)
{
	usb_stor_host_template_init(&tmd_host_template, TMD_USB_DRIVER, THIS_MODULE);
	return usb_register(&tmd_usb_driver);
}

void tmd_usb_exit(void)
{
	usb_deregister(&tmd_usb_driver);
}

MODULE_IMPORT_NS("USB_STORAGE");
