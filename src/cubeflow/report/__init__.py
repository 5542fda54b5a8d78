"""From numbers to what people look at: figures, DS9 regions and the report page."""
