# What an operator does once on each server: the applications' accounts and data. What they are made of comes from PRI.
set -eu
useradd --system --home-dir /unbound/orders --shell /usr/sbin/nologin orders
useradd --create-home --uid 4711 --shell /bin/sh baker
echo baker:cake | chpasswd

mkdir -p /unbound/orders /unbound/shelf
echo 3 > /unbound/orders/count
chown -R orders:orders /unbound/orders
chmod 700 /unbound/orders
echo 'flour, sugar' > /unbound/shelf/index.html

mkdir -p /var/lib/machines/shelf
cd /var/lib/machines/shelf
mkdir -p bin dev etc proc run sys tmp usr/bin var www
cp /bin/busybox bin/busybox
for library in $(ldd bin/busybox | grep -o '/[^ ]*'); do
    mkdir -p ".${library%/*}"
    cp -L "$library" ".$library"
done
ln -s busybox bin/sh
printf 'ID=shelf\n' > etc/os-release
