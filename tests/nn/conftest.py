from support.modes import mode as mode
