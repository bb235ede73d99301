"""Every exception and warning that recqueue raises on purpose."""


class RecqueueError(Exception):
    """Base of all errors raised on purpose; the message is one readable line."""


class InputError(RecqueueError, ValueError):
    """A value from outside is not usable: says what was given, what is allowed and the likely fix."""


class MissingDeviceError(RecqueueError):
    """A computation was asked of a GPU, a driver or a compiler that this machine does not have."""


class UnstableQueueError(RecqueueError):
    """The offered load is not below the number of servers, so no steady state exists."""


class OutOfValidityError(RecqueueError):
    """A formula was asked for a point outside the range in which its error is known."""


class WorkerLostError(RecqueueError):
    """Worker processes died, again when their work was repeated, and too little of it was finished to answer."""


class OutsideMeasuredRangeWarning(UserWarning):
    """A measured table was read outside the range that was measured."""
