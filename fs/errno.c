/* SPDX-License-Identifier: MIT */
#include "fs/errno.h"

#include <errno.h>

int errno_of_result(enum result_code code) {
        switch (code) {
        case RESULT_OK:
                return 0;
        case RESULT_TIMEOUT:
                return ETIMEDOUT;
        case RESULT_DENIED:
                return EACCES;
        case RESULT_INVALID:
                return EINVAL;
        case RESULT_LOST:
                return ENODEV;
        case RESULT_RELEASED:
                return ESTALE;
        case RESULT_BUSY:
                return EAGAIN;
        case RESULT_FAILED:
        case RESULT_CANCELLED:
                return EIO;
        }
        return EIO;
}
