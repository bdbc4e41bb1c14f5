# What an operator does once on each server that has PRI's units.
set -eu
systemctl daemon-reload
systemctl enable --now orders shelf
systemctl restart php8.2-fpm nginx
until curl -fsS http://127.0.0.1:8081/ && curl -fsS http://127.0.0.1:8082/index.php && curl -fsS http://127.0.0.1:8083/; do sleep 1; done
