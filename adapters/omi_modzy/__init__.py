"""The Modzy interface: REST v1 of Modzy's container specification."""
