"""The suite's Lambda functions, run by the target."""


class Functions:
    def __init__(self, target, tmp_path_factory):
        self.target = target

    @staticmethod
    def settings(directory):
        return ""

    @staticmethod
    def possible(target):
        return False

    def remove(self):
        pass
