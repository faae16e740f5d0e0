//! Model configurations to Blueprints for Embral.
