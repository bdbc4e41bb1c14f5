# Runs inside the new root file system, after the one that all have. What Debian's packages set up is left as it is, but that two web
# servers cannot share a port.
set -eu

sed -i 's/^Listen 80$/Listen 8080/' /etc/apache2/ports.conf
sed -i 's/<VirtualHost \*:80>/<VirtualHost *:8080>/' /etc/apache2/sites-available/000-default.conf
grep -q '^Listen 8080$' /etc/apache2/ports.conf
grep -q '<VirtualHost \*:8080>' /etc/apache2/sites-available/000-default.conf
