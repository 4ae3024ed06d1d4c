/* SPDX-License-Identifier: MIT */
#pragma once

/* The end of an image that a snapshot became: ImageDelete. */

#include "pool/backend/backend.h"
#include "pool/backend/modal/rpc/control.h"

/* As the backend's delete_snapshot(). An image whose name is not known cannot be found. */
int modal_image_delete(struct modal_control *control, const char *image, struct snapshot_deletion *deletion);
