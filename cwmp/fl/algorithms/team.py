"""A method as everybody in a federation runs it: the prices differ by device, the method not."""

from __future__ import annotations

from dataclasses import dataclass

from cwmp.fl.algorithms.base import Algorithm


@dataclass(frozen=True)
class Team:
    """One method over a fleet of devices.

    Attributes:
        server: as the server runs it.
        devices: as each kind of device runs it, with its own prices and budget.
        device_of: the place of each client's device in *devices*; shape (clients,).
    """

    server: Algorithm
    devices: tuple[Algorithm, ...]
    device_of: tuple[int, ...]

    def client(self, number: int) -> Algorithm:
        """The method as client *number* runs it."""
        return self.devices[self.device_of[number]]


def team_of(method: Algorithm | Team, clients: int) -> Team:
    """*method* as a team of *clients* equal devices, unless it is a team already."""
    if isinstance(method, Team):
        return method
    return Team(method, (method,), (0,) * clients)
