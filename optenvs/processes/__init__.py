"""One decentralized run in real processes: each is one node, and they talk over ``torch.distributed``."""
