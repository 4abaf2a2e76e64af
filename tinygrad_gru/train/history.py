"""stand-in"""


class History:
    def __init__(self):
        self.records = []
        self.stopped = None
        self.diagnosis = None

    def add(self, record):
        self.records.append(dict(record))

    def add_epoch(self, record):
        pass
