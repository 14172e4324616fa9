"""The parts of QDQ insertion: what becomes integer, with which parameters, written how."""
