# SPDX-License-Identifier: Apache-2.0
"""Why a run ends before its last step. Apart from the loop, so that the command line need not load torch to know."""


class Stopped(RuntimeError):
    """The run ended before its last step, for a reason that its message gives."""


class Diverged(Stopped):
    """Too many steps in a row were not finite."""


class Interrupted(Stopped):
    """A signal came; the run can go on."""
