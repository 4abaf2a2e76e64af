from support.modes import reading as reading
