from support.readings import reading as reading
