"""Selection where people already train: torch DDP, ``torch.optim`` loops, Flower.

Each is imported by its module: `cwmp.integrations.ddp`, `cwmp.integrations.optim` and
`cwmp.integrations.flower`.
"""
